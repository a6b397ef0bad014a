import { UsageError } from './address.js';
import { Log } from './log.js';
import { Printer } from './output.js';
import { connectPolicy } from './policy.js';

/** @typedef {import('../index.js').ServiceOptions} ServiceOptions */

/** @typedef {ReturnType<typeof settings>} Settings */

/**
 * Reads the options of a service, and fills in the defaults, which are those of `halfopen serve`.
 *
 * @param {ServiceOptions} options
 */
export function settings(options) {
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) throw new UsageError(`there is no option \`${name}\``);
  }
  const { isolation = null, args = [], env = {}, allowConnect = [] } = options;
  if (isolation !== null && isolation !== 'shared' && isolation !== 'connection') {
    throw new UsageError(`the isolation is \`shared\` or \`connection\`, and not \`${isolation}\``);
  }
  return {
    args: args.map(String),
    env: Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)])),
    isolation,
    mayConnect: connectPolicy(allowConnect),
    maxMemory: number(options, 'maxMemory', 256 << 20, 1 << 16),
    maxConnections: number(options, 'maxConnections', 4_096, 1),
    idleTimeout: number(options, 'idleTimeout', 600_000, 0),
    connectTimeout: number(options, 'connectTimeout', 10_000, 1),
    stdout: options.stdout ?? printing('stdout'),
    stderr: options.stderr ?? printing('stderr'),
    log: new Log(options.log ?? logging),
  };
}

/** The names of the options of a service, and of those of `serve` alone. */
const KNOWN = new Set([
  'args',
  'env',
  'isolation',
  'allowConnect',
  'maxMemory',
  'maxConnections',
  'idleTimeout',
  'connectTimeout',
  'stdout',
  'stderr',
  'log',
  'host',
  'port',
  'backlog',
]);

/** @param {Record<string, any>} options @param {string} name @param {number} otherwise @param {number} least */
function number(options, name, otherwise, least) {
  const value = options[name] ?? otherwise;
  if (!Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`the option \`${name}\` is a whole number, at least ${least}, and not \`${value}\``);
  }
  return value;
}

/** Those of this process, which are opened when they are needed. @type {{ stdout?: Printer, stderr?: Printer }} */
const printers = {};

/** @param {'stdout' | 'stderr'} name */
export const printing = (name) => (/** @type {Uint8Array} */ line) => {
  const printer = (printers[name] ??= new Printer(process[name], (lines) =>
    logging({
      level: 'warn',
      message: `${lines} lines on ${name} were dropped: nobody has read them in time`,
    }),
  ));
  printer.print(line);
};

/** Prints a line of the log on standard error. @param {import('../index.js').LogEntry} entry */
function logging({ level, message, peer }) {
  const line = peer ? `${message} peer=${peer}` : message;
  printing('stderr')(Buffer.from(`${new Date().toISOString()} ${level.toUpperCase().padStart(5)} ${line}\n`));
}
