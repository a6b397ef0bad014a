// The types of `halfopen:tcp/types`, as texts and as bytes in an instance's memory.
/** @typedef {import('../memory.js').GuestMemory} GuestMemory */

/**
 * The address of one end of a connection. `host` is an IP address as Node writes it.
 *
 * @typedef {{ host: string, port: number }} Address
 */

/** The cases of `error-code`, in the order of the WIT. */
const CODES = /** @type {const} */ ([
  'access-denied',
  'not-supported',
  'invalid-argument',
  'out-of-memory',
  'timeout',
  'invalid-state',
  'address-not-bindable',
  'address-in-use',
  'remote-unreachable',
  'connection-refused',
  'connection-broken',
  'connection-reset',
  'connection-aborted',
  'datagram-too-large',
  'other',
]);

/**
 * Why a socket operation has failed.
 *
 * @typedef {{ code: typeof CODES[number], text?: string }} ErrorCode
 */

export const ERROR_CODE = `variant { ${CODES.slice(0, -1).join(', ')}, other(option<string>) }`;

const IPV4 = 'record { port: u16, address: tuple<u8, u8, u8, u8> }';
const IPV6 =
  'record { port: u16, flow-info: u32, address: tuple<u16, u16, u16, u16, u16, u16, u16, u16>, scope-id: u32 }';
export const ADDRESS = `variant { ipv4(${IPV4}), ipv6(${IPV6}) }`;

/** @type {Map<string | undefined, ErrorCode['code']>} */
const SYSTEM = new Map([
  ['EACCES', 'access-denied'],
  ['EADDRNOTAVAIL', 'address-not-bindable'],
  ['ECONNABORTED', 'connection-aborted'],
  ['ECONNREFUSED', 'connection-refused'],
  ['ECONNRESET', 'connection-reset'],
  ['EHOSTUNREACH', 'remote-unreachable'],
  ['EINVAL', 'invalid-argument'],
  ['ENETUNREACH', 'remote-unreachable'],
  ['ENOBUFS', 'out-of-memory'],
  ['ENOMEM', 'out-of-memory'],
  ['EPERM', 'access-denied'],
  ['EPIPE', 'connection-broken'],
  ['ETIMEDOUT', 'timeout'],
]);

/** Returns the `error-code` of an error of Node. @param {NodeJS.ErrnoException} error @returns {ErrorCode} */
export function errorCode(error) {
  const code = SYSTEM.get(error.code);
  return code ? { code } : { code: 'other', text: error.message };
}

/**
 * Returns an error code as the arguments of a core function: the case, and `option<string>`.
 *
 * @param {GuestMemory | null} memory
 * @param {ErrorCode} error
 */
export function flatError(memory, { code, text }) {
  if (text === undefined || !memory) return [CODES.indexOf(code), 0, 0, 0];
  const data = Buffer.from(text);
  return [CODES.indexOf(code), 1, memory.put(data), data.length];
}

/**
 * Writes the error of a `result` whose payload is aligned to 4 bytes.
 *
 * @param {GuestMemory} memory
 * @param {number} at
 * @param {ErrorCode} error
 */
export function putError(memory, at, error) {
  const [code, some, place, length] = flatError(memory, error);
  memory.view.setUint8(at, 1);
  memory.view.setUint8(at + 4, code);
  memory.view.setUint8(at + 8, some);
  memory.putList(at + 12, place, length);
}

/**
 * Writes a `result<ip-socket-address, error-code>`; the error is `invalid-state`.
 *
 * @param {GuestMemory} memory
 * @param {number} at
 * @param {Address | null | undefined} address
 */
export function putAddress(memory, at, address) {
  if (!address) return putError(memory, at, { code: 'invalid-state' });
  const { view } = memory;
  const { host, port } = address;
  view.setUint8(at, 0);
  view.setUint16(at + 8, port, true);
  if (!host.includes(':')) {
    view.setUint8(at + 4, 0);
    memory.bytes.set(host.split('.').map(Number), at + 10);
    return;
  }
  view.setUint8(at + 4, 1);
  view.setUint32(at + 12, 0, true);
  groups(host).forEach((group, index) => view.setUint16(at + 16 + 2 * index, group, true));
  view.setUint32(at + 32, 0, true);
}

/** Returns the eight groups of an IPv6 address. @param {string} host */
export function groups(host) {
  // URL normalises addresses: hexadecimal, and with at most one `::`.
  const text = new URL(`http://[${host.split('%')[0]}]`).hostname.slice(1, -1);
  const [left, right] = text.split('::').map((half) => (half ? half.split(':') : []));
  const zeros = right ? Array(8 - left.length - right.length).fill('0') : [];
  return [...left, ...zeros, ...(right ?? [])].map((group) => parseInt(group, 16));
}

/**
 * Returns the address that a core function got as arguments: the case, and then the fields.
 *
 * @param {number} family
 * @param {number[]} fields
 * @returns {Address}
 */
export function flatAddress(family, fields) {
  const port = fields[0] & 0xffff;
  if (family === 0)
    return {
      host: fields
        .slice(1, 5)
        .map((byte) => byte & 0xff)
        .join('.'),
      port,
    };
  const text = fields
    .slice(2, 10)
    .map((group) => (group & 0xffff).toString(16))
    .join(':');
  return { host: new URL(`http://[${text}]`).hostname.slice(1, -1), port };
}
