import { listenAddress, UsageError } from './address.js';

export const HELP = `Serves a TCP service that is a WebAssembly component in callback style.

Usage: halfopen serve COMPONENT [OPTIONS] [-- ARGUMENTS]

  --listen ADDRESS         where to listen, more than once if need be (default: 127.0.0.1:1234)
  --isolation ISOLATION    connection: each connection has an instance of its own;
                           shared: one instance serves all (default: as the service declares,
                           or else connection)
  --allow-connect RULE     where the service may connect: ADDRESS:PORT, ADDRESS:LOW-HIGH,
                           ADDRESS:* or a CIDR (default: nowhere)
  --env NAME=VALUE         an environment variable of the service
  --max-memory MIB         memory of an instance (default: 256)
  --max-connections N      open connections; a further one is reset (default: 4096)
  --idle-timeout SECONDS   without a byte in either direction, then reset; 0: never (default: 600)
  --connect-timeout SECONDS  for connections that the service makes (default: 10)
  --grace SECONDS          for connections to end after SIGTERM (default: 10)
  --help, --version

The first lines on standard output are the addresses. What follows \`--\` are the service's arguments.
`;

/** The flags, and what each adds to the command. @type {Record<string, (command: Command, value: string, flag: string) => void>} */
const FLAGS = {
  '--listen': (command, value) => command.listen.push(listenAddress(value)),
  '--isolation': (command, value) => (command.options.isolation = value),
  '--allow-connect': (command, value) => command.options.allowConnect.push(value),
  '--env': (command, value) => {
    const [, name, text] = /^([^=]+)=(.*)$/s.exec(value) ?? [];
    if (name === undefined) throw new UsageError(`\`${value}\` is not a variable; write NAME=VALUE`);
    command.options.env[name] = text;
  },
  '--max-memory': (command, value, flag) => (command.options.maxMemory = number(flag, value, 1) * (1 << 20)),
  '--max-connections': (command, value, flag) => (command.options.maxConnections = number(flag, value, 1)),
  '--idle-timeout': (command, value, flag) => (command.options.idleTimeout = milliseconds(flag, value, 0)),
  '--connect-timeout': (command, value, flag) =>
    (command.options.connectTimeout = milliseconds(flag, value, 1)),
  '--grace': (command, value, flag) => (command.grace = milliseconds(flag, value, 0)),
};

/** What the arguments of the process ask for. */
export class Command {
  component = '';
  /** @type {import('./imports/types.js').Address[]} */
  listen = [];
  /** @type {any} */
  options = { args: [], env: {}, allowConnect: [] };
  grace = 10_000;
}

/** Reads the arguments of `serve`. @param {string[]} words */
export function parse(words) {
  const command = new Command();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      command.options.args = rest.splice(0);
    } else if (!word.startsWith('-')) {
      if (command.component)
        throw new UsageError(
          `there are two components, ${command.component} and ${word}; put arguments behind \`--\``,
        );
      command.component = word;
    } else {
      const [, flag, inline] = /^([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
      if (!Object.hasOwn(FLAGS, flag))
        throw new UsageError(`there is no flag ${flag}; see \`halfopen --help\``);
      const value = inline ?? rest.shift();
      if (value === undefined) throw new UsageError(`a value is missing after ${flag}`);
      FLAGS[flag](command, value, flag);
    }
  }
  if (!command.component) throw new UsageError('which component? Write `halfopen serve FILE.wasm`');
  if (command.listen.length === 0) command.listen.push(listenAddress('127.0.0.1:1234'));
  return command;
}

/** @param {string} flag @param {string} value @param {number} least */
function number(flag, value, least) {
  const read = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
  if (!(read >= least))
    throw new UsageError(`${flag} takes a whole number, at least ${least}, and not \`${value}\``);
  return read;
}

/** @param {string} flag @param {string} value in seconds @param {number} least */
const milliseconds = (flag, value, least) => 1000 * number(flag, value, least);
