import { readFileSync } from 'node:fs';

/** The version in package.json; processes tell it to each other and write it into their events. */
export const packageVersion = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
