import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { foreignCodeOf, writeFileAtomically } from '../../runtime/index.ts';
import type { SinkName } from './messages.ts';

const positionSchema = z.object({ v: z.literal(1), chain: z.uuid(), seq: z.int().nonnegative() });

/** The last event that a sink has. */
export interface SinkPosition {
  readonly chain: string;
  readonly seq: number;
}

const fileOf = (spoolDir: string, name: SinkName): string => join(spoolDir, `sink-${name}.json`);

/** Where a sink stood; `undefined` when it never had anything, or the file cannot be read as one of these. */
export const readPosition = (spoolDir: string, name: SinkName): SinkPosition | undefined => {
  let text: string;
  try {
    text = readFileSync(fileOf(spoolDir, name), 'utf8');
  } catch (thrown) {
    if (foreignCodeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
  try {
    const read = positionSchema.safeParse(JSON.parse(text)).data;
    return read === undefined ? undefined : { chain: read.chain, seq: read.seq };
  } catch {
    return undefined;
  }
};

/** Durable on return. @throws what the disk throws. */
export const writePosition = (spoolDir: string, name: SinkName, { chain, seq }: SinkPosition): void =>
  writeFileAtomically(fileOf(spoolDir, name), `${JSON.stringify({ v: 1, chain, seq })}\n`);
