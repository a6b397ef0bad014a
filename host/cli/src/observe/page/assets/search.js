// A search: words that have to fit a connection, such as `peer:10.0.0.0/8 state:close-wait`.

/** Returns whether a connection fits the text of a search. */
export function search(text) {
  const terms = text.trim().toLowerCase().split(/\s+/).filter(Boolean).map(term);
  return (connection) => terms.every((fits) => fits(connection));
}

/** States that are no names of TCP's. */
const KINDS = {
  open: ({ closed }) => !closed,
  'half-open': ({ state }) => state === 'CLOSE-WAIT' || state.startsWith('FIN-WAIT'),
  blocked: ({ blocked }) => Boolean(blocked?.in || blocked?.out),
};

function term(text) {
  if (text.startsWith('-') && text.length > 1) {
    const fits = term(text.slice(1));
    return (connection) => !fits(connection);
  }
  const [, key, value] = /^(peer|service|state|outcome|instance|id):(.*)$/.exec(text) ?? [];
  if (key === 'peer') return peer(value);
  if (key === 'state' && KINDS[value]) return KINDS[value];
  if (key === 'instance' || key === 'id') {
    return (connection) => value === '' || String(connection[key]) === value;
  }
  if (key) return (connection) => connection[key].toLowerCase().includes(value);
  return ({ peer, service, state, outcome, id }) =>
    [peer, service, state, outcome, String(id)].some((has) => has.toLowerCase().includes(text));
}

/** A peer by a part of its address, or by its network. */
function peer(value) {
  const network = parseNetwork(value);
  if (!network) return (connection) => connection.peer.toLowerCase().includes(value);
  return (connection) => {
    const address = parseAddress(ipOf(connection.peer));
    if (!address || address.bits !== network.bits) return false;
    const rest = BigInt(network.bits - network.length);
    return address.value >> rest === network.value >> rest;
  };
}

/** The IP address of `127.0.0.1:80` or `[::1]:80`. */
export function ipOf(peer) {
  return peer.replace(/:\d+$/, '').replace(/^\[|\]$/g, '').replace(/%.*$/, '');
}

/** The network of one customer, as limits for each peer count: an IPv4 address, or a /64. */
export function networkOf(peer) {
  const address = parseAddress(ipOf(peer));
  if (!address) return '';
  if (address.bits === 32) return `${ipOf(peer).replace(/^::ffff:/, '')}/32`;
  const groups = [];
  for (let shift = 112n; shift >= 64n; shift -= 16n) {
    groups.push(((address.value >> shift) & 0xffffn).toString(16));
  }
  return `${groups.join(':')}::/64`;
}

function parseNetwork(text) {
  const [, ip, length] = /^(.*)\/(\d{1,3})$/.exec(text) ?? [];
  const address = ip && parseAddress(ip);
  if (!address || Number(length) > address.bits) return null;
  return { ...address, length: Number(length) };
}

function parseAddress(text) {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
  if (mapped) return parseAddress(mapped[1]);
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) {
    const bytes = text.split('.').map(Number);
    if (bytes.some((byte) => byte > 255)) return null;
    return { bits: 32, value: bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n) };
  }
  const halves = text.split('::');
  if (!text.includes(':') || halves.length > 2) return null;
  const [before, after] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const missing = 8 - before.length - (after?.length ?? 0);
  if (after ? missing < 1 : missing !== 0) return null;
  const groups = after ? [...before, ...Array(missing).fill('0'), ...after] : before;
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  const value = groups.reduce((all, group) => (all << 16n) | BigInt(`0x${group}`), 0n);
  return { bits: 128, value };
}
