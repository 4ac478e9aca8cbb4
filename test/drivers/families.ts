import { commandLines } from './command-lines.ts';
import type { DriverFamily } from './family.ts';
import { protocols } from './protocols/protocols.ts';

export const families: readonly DriverFamily[] = [commandLines, protocols];
