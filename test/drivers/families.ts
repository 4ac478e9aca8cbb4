import { commandLines } from './command-lines.ts';
import type { DriverFamily } from './family.ts';
import { go } from './go/go.ts';
import { java } from './java/java.ts';
import { node } from './node/family.ts';
import { php } from './php/php.ts';
import { protocols } from './protocols/protocols.ts';
import { python } from './python/family.ts';

export const families: readonly DriverFamily[] = [commandLines, protocols, python, node, java, php, go];
