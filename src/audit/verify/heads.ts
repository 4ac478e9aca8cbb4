import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { headSchema } from '../spool/head-file.ts';
import type { Findings } from './report.ts';
import { StoredDigests } from './stored-seals.ts';

/** A batch that a writer says the database has. */
export interface OutsideHead {
  readonly file: string;
  readonly chain: string;
  readonly batch: number;
  readonly seal: string | undefined;
}

/**
 * The acknowledged head in a writer's head file.
 * @throws AppError ERR_AUDIT_TRUST_INVALID when the file is not one.
 */
export const readOutsideHead = (file: string): OutsideHead | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw auditError('ERR_AUDIT_TRUST_INVALID', `head file ${file} is not readable: ${messageOf(cause)}`, {
      cause,
    });
  }
  const head = headSchema.safeParse(value).data;
  if (head === undefined) throw auditError('ERR_AUDIT_TRUST_INVALID', `head file ${file} has no such form`);
  const { acknowledged } = head;
  if (acknowledged === null || acknowledged.batch === 0) return undefined;
  return { file, chain: acknowledged.chain, batch: acknowledged.batch, seal: acknowledged.seal };
};

/** Compares heads from outside with what the database holds: a missing one is a cut tail. */
export const checkHeads = async (
  client: pg.ClientBase,
  heads: readonly OutsideHead[],
  findings: Findings,
): Promise<void> => {
  const stored = await StoredDigests.of(client, heads);
  for (const head of heads) {
    const at = { chain: head.chain, batch: head.batch };
    const digest = stored.get(head);
    if (digest === undefined) {
      findings.add('head_missing', `${head.file} names a batch that is not there: the chain was cut`, at);
    } else if (head.seal !== undefined && head.seal !== digest) {
      findings.add('head_differs', `${head.file} names another seal for this batch`, at);
    }
  }
};
