// Runs a composed component, a command on `wasi:sockets`, on Node by jco and its shim.
// Usage: node command.mjs COMPONENT ARGUMENTS
import { _setArgs } from '@bytecodealliance/preview3-shim/cli';

import { load } from './load.mjs';

const [component, ...rest] = process.argv.slice(2);
_setArgs(['command', ...rest]);
const { run } = await load(component);
await run.run();
