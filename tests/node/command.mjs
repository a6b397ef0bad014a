// Runs a composed component, which is a command on `wasi:sockets`, on Node with jco.
// Usage: node command.mjs COMPONENT ARGUMENTS
import { _setArgs } from '@bytecodealliance/preview3-shim/cli';

import { load } from './load.mjs';

const [component, ...rest] = process.argv.slice(2);
_setArgs(['command', ...rest]);
const { run } = await load(component);
await run.run();
