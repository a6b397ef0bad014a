// The interfaces that this host provides, by name and the version that they are compatible with.
import { connecting, piping, socketPeer, sockets, timers } from './tcp.js';
import { subscribing, topics } from './topics.js';
import { environment, exit, noTerminal, stderr, stdin, stdout } from './wasi-cli.js';
import { error, poll, streams } from './wasi-io.js';
import {
  createTcpSocket,
  createUdpSocket,
  files,
  insecure,
  insecureSeed,
  instanceNetwork,
  lookup,
  monotonicClock,
  preopens,
  random,
  unreachable,
  wallClock,
} from './wasi-rest.js';

/** @typedef {import('../link.js').HostFunction} HostFunction */

/** @type {Record<string, Record<string, HostFunction>>} */
const INTERFACES = {
  'halfopen:tcp/sockets@0.1': sockets,
  'halfopen:tcp/connecting@0.1': connecting,
  'halfopen:tcp/piping@0.1': piping,
  'halfopen:tcp/timers@0.1': timers,
  'halfopen:tcp/socket-peer@0.1': socketPeer,
  'halfopen:tcp/topics@0.1': topics,
  'halfopen:tcp/subscribing@0.1': subscribing,
  'wasi:cli/environment@0.2': environment,
  'wasi:cli/exit@0.2': exit,
  'wasi:cli/stdin@0.2': stdin,
  'wasi:cli/stdout@0.2': stdout,
  'wasi:cli/stderr@0.2': stderr,
  'wasi:cli/terminal-stdin@0.2': noTerminal('stdin'),
  'wasi:cli/terminal-stdout@0.2': noTerminal('stdout'),
  'wasi:cli/terminal-stderr@0.2': noTerminal('stderr'),
  'wasi:io/error@0.2': error,
  'wasi:io/poll@0.2': poll,
  'wasi:io/streams@0.2': streams,
  'wasi:clocks/monotonic-clock@0.2': monotonicClock,
  'wasi:clocks/wall-clock@0.2': wallClock,
  'wasi:random/random@0.2': random,
  'wasi:random/insecure@0.2': insecure,
  'wasi:random/insecure-seed@0.2': insecureSeed,
  'wasi:filesystem/preopens@0.2': preopens,
  'wasi:filesystem/types@0.2': files,
  'wasi:sockets/instance-network@0.2': instanceNetwork,
  'wasi:sockets/ip-name-lookup@0.2': lookup,
  'wasi:sockets/tcp@0.2': {},
  'wasi:sockets/tcp-create-socket@0.2': createTcpSocket,
  'wasi:sockets/udp@0.2': {},
  'wasi:sockets/udp-create-socket@0.2': createUdpSocket,
};

/** The interfaces whose resources never exist, so that nobody can call their other functions. */
const WITHOUT_HANDLES = new Set([
  'wasi:filesystem/types@0.2',
  'wasi:sockets/ip-name-lookup@0.2',
  'wasi:sockets/tcp@0.2',
  'wasi:sockets/udp@0.2',
]);

/** Returns a name with the version that it is compatible with: `a:b/c@0.2` of `a:b/c@0.2.6`. @param {string} name */
export function compatible(name) {
  const [, bare, major, minor] = /^([^@]*)@(\d+)\.(\d+)\.\d+$/.exec(name) ?? [];
  if (bare === undefined) return name;
  return major === '0' ? `${bare}@0.${minor}` : `${bare}@${major}`;
}

/** Whether this host has an interface of this name. @param {string} name */
export const isKnown = (name) => Object.hasOwn(INTERFACES, compatible(name));

/**
 * Returns a function of an interface, if this host has it.
 *
 * @param {string} name
 * @param {string} func
 * @returns {HostFunction | null}
 */
export function provided(name, func) {
  const key = compatible(name);
  if (!Object.hasOwn(INTERFACES, key)) return null;
  const functions = INTERFACES[key];
  if (Object.hasOwn(functions, func)) return functions[func];
  return WITHOUT_HANDLES.has(key) ? unreachable : null;
}
