import type { DriverFamily } from './family.ts';
import { commandLines } from './command-lines.ts';
import { go } from './go/go.ts';
import { java } from './java/java.ts';
import { php } from './php/php.ts';

export const families: readonly DriverFamily[] = [commandLines, java, php, go];
