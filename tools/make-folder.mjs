// A folder of made things that knows what it was made from: for the tools that build tests' programs into .tools.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const digestOf = (texts) => {
  const digest = createHash('sha256');
  for (const text of texts) digest.update(text);
  return digest.digest('hex');
};

/**
 * Has `make` fill a new folder, which then takes the place of `folder`. Does nothing when that was made from the same
 * `digest`; its file `made-from` says so.
 */
export const makeFolder = (folder, digest, make) => {
  const stamp = join(folder, 'made-from');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  const fresh = `${folder}.${process.pid}.new`;
  process.on('exit', () => rmSync(fresh, { recursive: true, force: true }));
  mkdirSync(fresh, { recursive: true });
  make(fresh);
  writeFileSync(join(fresh, 'made-from'), digest);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
};
