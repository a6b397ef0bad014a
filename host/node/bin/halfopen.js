#!/usr/bin/env node
import { run } from '../src/command.js';

await run(process.argv.slice(2));
