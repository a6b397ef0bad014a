// The command `halfopen` of this package.
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers';

import { text } from './address.js';
import { HELP, parse } from './arguments.js';
import { boundAddress, listen, start } from './listening.js';
import { printing } from './settings.js';

/** @typedef {import('./service.js').Service} Service */

/** The longest time that the end of the process waits for a slow reader of what was printed. */
const LAST_LINES = 1_000;

/** Runs the command, and ends the process if there is a mistake. @param {string[]} words */
export async function run(words) {
  if (words.includes('--version') && words[0] === '--version') return print(`halfopen ${version()} for Node`);
  if (words.length === 0 || ['--help', '-h', 'help'].includes(words[0]) || words[1] === '--help')
    return print(HELP.trimEnd());
  try {
    if (words[0] !== 'serve')
      throw new Error(`there is no command \`${words[0]}\`; write \`halfopen serve FILE.wasm\``);
    await serve(words.slice(1));
  } catch (error) {
    console.error(`error: ${/** @type {Error} */ (error).message.replaceAll('\n', ' ')}`);
    process.exit(1);
  }
}

/** @param {string[]} words */
async function serve(words) {
  const command = parse(words);
  const service = await start(command.component, command.options);
  /** @type {import('node:net').Server[]} */
  const servers = [];
  for (const address of command.listen) {
    const server = await listen(service, address).catch((error) => {
      throw new Error(`cannot listen on ${text(address)}: ${error.message}`);
    });
    servers.push(server);
  }
  for (const server of servers) print(boundAddress(server));
  let stopping = false;
  const stop = async () => {
    if (stopping) process.exit(1);
    stopping = true;
    for (const server of servers) server.close();
    await end(service, command.grace);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

/** Waits for the connections, and ends the process. @param {Service} service @param {number} grace */
async function end(service, grace) {
  const reset = await service.stop(grace);
  if (reset > 0)
    service.settings.log.warn('stop', `${reset} connections had not ended in time, and were reset`);
  setTimeout(() => process.exit(0), LAST_LINES);
  process.stdout.write('', () => process.exit(0));
}

/** @param {string} line */
const print = (line) => printing('stdout')(Buffer.from(`${line}\n`));

const version = () => JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
