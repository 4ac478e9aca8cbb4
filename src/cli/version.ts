import { readFileSync } from 'node:fs';

/** The directory of the package: migrations, policies and the bin are found from here. */
export const packageRoot = new URL('../../', import.meta.url);

/** The version in package.json. */
export const version = (
  JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')) as { version: string }
).version;
