import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { foreignCodeOf, writeFileAtomically } from '../../runtime/index.ts';

const HEAD_FILE = 'head.json';

const position = z.object({ chain: z.uuid(), batch: z.int().nonnegative(), seal: z.string().optional() });

/** The writer's own head, beside its spool and outside the database. */
export const headSchema = z.object({
  v: z.literal(1),
  chain: z.uuid(),
  epoch: z.int().positive(),
  batch: z.int().nonnegative(),
  seal: z.string().nullable(),
  seq: z.int().nonnegative(),
  /** The chain was ended. */
  final: z.boolean(),
  /** Last batch that the database acknowledged. */
  acknowledged: position.nullable(),
  /** Last batch in the JSONL files. */
  exported: position.nullable(),
});

export type SpoolHead = Readonly<z.output<typeof headSchema>>;
export type HeadPosition = Readonly<z.output<typeof position>>;

/** Path of the head file of a spool. */
export const headFileOf = (spoolDir: string): string => join(spoolDir, HEAD_FILE);

/** The head of a spool; `undefined` when it has none or it cannot be read as one. */
export const readHead = (spoolDir: string): SpoolHead | undefined => {
  let text: string;
  try {
    text = readFileSync(headFileOf(spoolDir), 'utf8');
  } catch (thrown) {
    if (foreignCodeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
  try {
    return headSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
};

/** Replaces the head of a spool; durable on return. */
export const writeHead = (spoolDir: string, head: SpoolHead): void =>
  writeFileAtomically(headFileOf(spoolDir), `${JSON.stringify(head)}\n`);
