// Events in words.

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** A number of bytes. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < BYTES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${BYTES[unit]}`;
}

/** A time span, which begins at seconds. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Text of peers and services, with what is invisible or turns the direction of text escaped. */
export function visible(text) {
  const escape = (char) => {
    if (char === '\n') return '\\n';
    if (char === '\r') return '\\r';
    if (char === '\t') return '\\t';
    return `\\u{${char.codePointAt(0).toString(16)}}`;
  };
  return String(text ?? '').replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu, escape);
}

/** The beginning of a payload. */
export function content(event, most = 60) {
  if (event.payload === undefined) return '';
  const binary = atob(event.payload.slice(0, 4 * most));
  const text = new TextDecoder().decode(Uint8Array.from(binary, (char) => char.charCodeAt(0)));
  const shown = [...visible(text)];
  return shown.length > most || event.cut ? `${shown.slice(0, most).join('')}…` : shown.join('');
}

const BLOCKED_BY = {
  peer: 'the window of the peer is full',
  service: 'the service does not read',
};

const after = ({ took }) => (took === undefined ? '' : `, after ${took.toFixed(3)} s`);

/** An address that the system does not tell. */
const UNKNOWN = '0.0.0.0:0';

const direction = (event) => (event.dir === 'in' ? 'from the peer' : 'to the peer');

const WORDS = {
  accepted: (event) => (event.local && event.local !== UNKNOWN ? `accepted on ${event.local}` : 'accepted'),
  proxy: (event) =>
    event.check ? 'health check of the load balancer' : `PROXY header: the client is ${event.peer}`,
  tls: ({ version, name, alpn }) =>
    `${version ?? 'TLS'}${name ? `, for ${name}` : ''}${alpn ? `, ${alpn}` : ''}`,
  served: (event) => `served by instance ${event.instance}`,
  data: (event) => bytes(event.length),
  fin: () => 'FIN',
  acknowledged: () => 'the peer has acknowledged the FIN',
  rst: () => 'RST',
  error: (event) => `error ${event.code}${event.message ? `: ${event.message}` : ''}`,
  blocked: (event) => `blocked ${direction(event)}: ${BLOCKED_BY[event.by] ?? event.by}`,
  unblocked: (event) => `moves again ${direction(event)}${after(event)}`,
  paused: () => 'the service pauses',
  resumed: (event) => `the service goes on${after(event)}`,
  limit: (event) => `limit: ${event.limit}`,
  instance: (event) =>
    `instance ${event.instance} ${event.what}${event.message ? `: ${event.message}` : ''}`,
  closed: (event) => `closed: ${event.outcome}`,
};

/** What an event says, in a few words. */
export function describe(event) {
  return visible(WORDS[event.event]?.(event) ?? event.event);
}

/** Who sent what the event is about: only data, FIN and RST cross the wire. */
export function sender(event) {
  if (!['data', 'fin', 'rst'].includes(event.event)) return null;
  return event.dir === 'in' ? 'peer' : 'service';
}
