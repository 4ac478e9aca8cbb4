import type { DriverFamily } from './family.ts';
import { commandLines } from './command-lines.ts';

export const families: readonly DriverFamily[] = [commandLines];
