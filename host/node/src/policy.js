// Where a service may connect: nowhere, unless a rule says so.
import { Network, UsageError } from './address.js';

/** @typedef {import('./imports/types.js').Address} Address */

/** @param {string[]} texts */
const networks = (...texts) => texts.map((given) => /** @type {Network} */ (Network.parse(given)));

/** Addresses that are never a peer's: unspecified, multicast, IPv4-mapped. */
const NEVER = networks('0.0.0.0', '224.0.0.0/4', '::', 'ff00::/8', '::ffff:0:0/96');

/**
 * Networks that are not part of the internet (RFC 6890), and those of IPv6 in which an address
 * stands for one of IPv4: compatible, translated, NAT64, 6to4 and Teredo.
 */
const PRIVATE = networks(
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '240.0.0.0/4',
  '::/127',
  '64:ff9b:1::/48',
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
);
const HIDING = networks(
  '::/96',
  '::ffff:0:0:0/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '2002::/16',
  '2001::/32',
);

/** Whether something may listen on an address at all (K16). @param {Address} address */
export function isPeer({ host, port }) {
  const address = Network.parse(host);
  return port !== 0 && address !== null && !NEVER.some((network) => network.contains(address));
}

/**
 * Returns a function that says whether rules allow to connect to an address. A rule is
 * `ADDRESS:PORT`, `ADDRESS:LOW-HIGH`, `ADDRESS:*` or a network in CIDR notation. A rule for the whole
 * internet opens no private network, and an IPv6 address that stands for one of IPv4 takes a rule of
 * its own.
 *
 * @param {readonly string[]} texts
 * @returns {(address: Address) => boolean}
 */
export function connectPolicy(texts) {
  const rules = texts.map(parse);
  return ({ host, port }) => {
    const address = Network.parse(host);
    if (!address) return false;
    const inside = PRIVATE.filter((network) => network.contains(address));
    return rules.some(({ network, low, high }) => {
      if (!network.contains(address) || port < low || port > high) return false;
      return network.isSingle || (!hides(address) && inside.every((known) => known.contains(network)));
    });
  };
}

/** Whether an address of IPv6 may stand for one of IPv4. @param {Network} address */
function hides(address) {
  if (address.bytes.length === 4) return false;
  // ISATAP (RFC 5214), in any network.
  const [a, b, c, d] = address.bytes.slice(8, 12);
  const isatap = (a === 0 || a === 2) && b === 0 && c === 0x5e && d === 0xfe;
  return isatap || HIDING.some((network) => network.contains(address));
}

/** @param {string} rule */
function parse(rule) {
  const wrong = () =>
    new UsageError(
      `\`${rule}\` is not an address rule; write ADDRESS:PORT, ADDRESS:LOW-HIGH, ADDRESS:* or a CIDR, ` +
        'such as 127.0.0.1:1234, [::1]:8000-8999 or 10.0.0.0/8',
    );
  const alone = rule.includes('/') ? Network.parse(rule) : null;
  if (alone) return { network: alone, low: 0, high: 65_535 };
  // An IPv6 address is in brackets, and the length of its prefix may be outside.
  const [, inside, prefix = '', outside, ports] =
    /^(?:\[([^\]]+)\](\/\d+)?|([^:[\]]+)):(\*|\d+(?:-\d+)?)$/.exec(rule) ?? [];
  const network = Network.parse(inside === undefined ? (outside ?? '') : `${inside}${prefix}`);
  if (!network || ports === undefined) throw wrong();
  const [low, high = low] = ports === '*' ? [0, 65_535] : ports.split('-').map(Number);
  if (low > high || high > 65_535) throw wrong();
  return { network, low, high };
}
