// Loads a component: jco translates it, and connection.mjs provides `halfopen:tcp`.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { transpileBytes } from '@bytecodealliance/jco-transpile';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Returns the component's exports. The translation is cached, because it takes seconds. */
export async function load(path) {
  const component = await readFile(path);
  const cache = join(HERE, 'node_modules/.cache');
  // A translation names files of this folder.
  const key = createHash('sha256').update(component).update(HERE);
  for (const part of ['load.mjs', 'package-lock.json']) key.update(await readFile(join(HERE, part)));
  const place = join(cache, key.digest('hex'));
  const main = join(place, 'component.js');
  const there = await readFile(main).catch(() => null);
  if (!there) {
    await mkdir(cache, { recursive: true });
    const temporary = await mkdtemp(join(cache, 'new-'));
    const { files } = await transpileBytes(component, {
      name: 'component',
      map: Object.fromEntries(
        ['connections', 'peer'].map((name) => [
          `halfopen:tcp/${name}@0.1.0`,
          pathToFileURL(join(HERE, 'connection.mjs')).href,
        ]),
      ),
    });
    for (const [name, bytes] of Object.entries(files)) {
      await mkdir(dirname(join(temporary, name)), { recursive: true });
      await writeFile(join(temporary, name), bytes);
    }
    // Another process may have been faster.
    await rename(temporary, place).catch(() => rm(temporary, { recursive: true }));
  }
  return import(pathToFileURL(main).href);
}
