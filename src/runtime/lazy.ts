import { createRequire } from 'node:module';
import type * as PromClient from 'prom-client';
import type * as Yaml from 'yaml';

// Packages that are loaded when they are first used: threads and most commands never do, and each takes some 40 ms of
// CPU time. Both are CommonJS, so that an import elsewhere is the same module.

const load = createRequire(import.meta.url);

export const promClient = (): typeof PromClient => load('prom-client') as typeof PromClient;
export const yaml = (): typeof Yaml => load('yaml') as typeof Yaml;
