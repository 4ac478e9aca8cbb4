import type { DriverFamily } from './family.ts';
import { commandLines } from './command-lines.ts';
import { node } from './node/family.ts';
import { python } from './python/family.ts';

export const families: readonly DriverFamily[] = [commandLines, python, node];
