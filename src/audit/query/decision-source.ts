import { createHash } from 'node:crypto';
import { foreignCodeOf, isAppError } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { cleanJson } from '../event/clean.ts';
import type { EventData } from '../event/event-data.ts';
import type { AuditReader } from './reader.ts';
import { isUuid } from './uuid.ts';

/** A decision as its event has it, to be made again. */
export interface DecisionEvent {
  readonly event_id: string;
  readonly at: string;
  readonly type: 'stream.decision' | 'publish.decision';
  readonly agent: string | null;
  readonly connection: string | null;
  readonly principal: string | null;
  /** Site that it was imported from; null when it was decided here. */
  readonly site: string | null;
  readonly data: EventData['stream.decision'];
}

const INSUFFICIENT_PRIVILEGE = '42501';

/**
 * The decisions of a stream in order, re-checks that ended it included; or the one of an event id. Where another site names
 * an id of ours too, ours are meant.
 * @throws AppError ERR_AUDIT_STREAM_UNKNOWN, ERR_AUDIT_QUERY_FAILED
 */
export const findDecisions = async (reader: AuditReader, id: string): Promise<readonly DecisionEvent[]> => {
  const unknown = auditError(
    'ERR_AUDIT_STREAM_UNKNOWN',
    `no decision on a stream or event ${id} in this database`,
  );
  if (!isUuid(id)) throw unknown;
  const columns = `t.event_id, t.occurred_at as at, t.type, t.agent, t.connection, t.principal, t.site,
    t.details -> 'data' as data`;
  for (const which of ["t.stream_id = $1::uuid and t.type = 'stream.decision'", 't.event_id = $1::uuid']) {
    const { rows } = await reader.query(
      `select ${columns} from audit.timeline as t
       where ${which} and t.type in ('stream.decision', 'publish.decision') and t.details is not null
       order by t.site nulls first, t.recorded_at, t.chain_id, t.seq`,
      [id],
    );
    const decisions = rows as unknown as DecisionEvent[];
    const [first] = decisions;
    if (first !== undefined) return decisions.filter(({ site }) => site === first.site);
  }
  throw unknown;
};

/** What the database has under a digest. Nothing of it is believed: the digest is taken again here. */
export type KeptContent =
  | { readonly kind: 'found'; readonly content: Buffer }
  | { readonly kind: 'absent' }
  | { readonly kind: 'altered'; readonly sha256: string };

const TABLE_OF = { bundle: 'audit.bundle', grants: 'audit.bundle_grants' } as const;

/** @throws AppError ERR_AUDIT_QUERY_FAILED, also when the login may not read what is in bundles */
export const readKeptContent = async (
  reader: AuditReader,
  kind: keyof typeof TABLE_OF,
  sha256: string,
): Promise<KeptContent> => {
  try {
    const { rows } = await reader.query(`select content from ${TABLE_OF[kind]} where sha256 = $1`, [sha256]);
    const hex = rows[0]?.['content'];
    if (typeof hex !== 'string') return { kind: 'absent' };
    const content = Buffer.from(hex, 'hex');
    const actual = createHash('sha256').update(content).digest('hex');
    return actual === sha256 ? { kind: 'found', content } : { kind: 'altered', sha256: actual };
  } catch (thrown) {
    const isForbidden =
      isAppError(thrown, 'ERR_AUDIT_QUERY_FAILED') &&
      foreignCodeOf((thrown as Error).cause) === INSUFFICIENT_PRIVILEGE;
    if (!isForbidden) throw thrown;
    throw auditError(
      'ERR_AUDIT_QUERY_FAILED',
      `this login may not read what is in a ${kind === 'bundle' ? 'bundle' : 'grants file'}: use one of role audit_verify, or give the file itself`,
      { cause: thrown },
    );
  }
};

/** A value in the form in which an event would hold it, to be compared with one that does. */
export const asRecorded = (value: unknown): unknown => JSON.parse(cleanJson(value) ?? 'null') as unknown;
