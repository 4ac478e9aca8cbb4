import type pg from 'pg';
import type {
  AuditEventInput,
  ChangeRecord,
  ControlChanges,
  OutboxChange,
  StandingFact,
} from '../audit/index.ts';
import type { ChangeEventType } from './change-event.ts';
import { withConnection } from './one-connection.ts';

/** Rows read at a time. */
const READ_ROWS = 1_000;

const TYPES = [
  'connection.created',
  'connection.changed',
  'connection.deleted',
  'auth_rule.changed',
  'key.created',
  'key.rotated',
  'key.disclosed',
  'key.revoked',
  'identity.revoked',
  'admin.action',
] as const satisfies readonly ChangeEventType[];

const membersOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};

/** What an event tells of, in the words of the statements below. */
const factsOf = ({ type, subject, data }: ChangeRecord): readonly string[] => {
  switch (type) {
    case 'connection.created':
      return [`connection ${String(subject['connection_id'])}`];
    case 'connection.deleted':
      return [`end of ${String(subject['connection_id'])}`];
    case 'auth_rule.changed':
      return [`auth-rule ${String(membersOf(data['after'])['id'])}`];
    case 'key.created':
      return [`key ${String(subject['key_id'])}`];
    case 'key.rotated':
      return [`key ${String(subject['key_id'])}`, `end of ${String(membersOf(data['before'])['key_id'])}`];
    case 'key.revoked':
      return [`end of ${String(subject['key_id'])}`];
    case 'identity.revoked':
      return [`end of ${String(data['revocation_id'])}`];
    case 'admin.action': {
      const detail = membersOf(data['detail']);
      if (data['action'] === 'token.created') return [`token ${String(detail['token_id'])}`];
      if (data['action'] !== 'revocation.republished') return [];
      const ended = [subject['key_id'] ?? subject['connection_id'], detail['revocation_id']];
      return ended.map((id) => `end of ${String(id)}`);
    }
    default:
      return [];
  }
};

/** Each thing that stands, the fact that some event must tell, and its age by the database's clock. */
const STANDING: readonly string[] = [
  `select 'connection ' || name as what, 'connection ' || id as fact, created_at from control.connection`,
  `select 'auth-rule ' || coalesce(c.name, 'namespace') || '/' || r.name as what, 'auth-rule ' || r.id as fact,
     r.created_at from control.auth_rule as r left join control.connection as c on c.id = r.connection_id`,
  `select 'key ' || key_id as what, 'key ' || key_id as fact, created_at from control.key`,
  `select 'token ' || id as what, 'token ' || id as fact, created_at from control.token`,
  `select 'revocation ' || revocation_id || ' of '
       || coalesce('key ' || key_id, 'agent ' || agent, 'connection ' || connection_id) as what,
     'end of ' || coalesce(key_id, case when agent is null then connection_id else revocation_id end::text) as fact, created_at
     from control.revocation`,
];

interface OutboxRow {
  readonly id: string;
  readonly event_id: string;
  readonly event: AuditEventInput;
  readonly age: number;
  readonly handed_age: number | null;
}

const readOutbox = async (client: pg.Client): Promise<OutboxChange[]> => {
  const read: OutboxChange[] = [];
  let after = '0';
  for (;;) {
    const { rows } = await client.query<OutboxRow>(
      `select id, event_id, event, extract(epoch from now() - created_at)::double precision as age,
         extract(epoch from now() - drained_at)::double precision as handed_age
       from control.outbox where id > $1 order by id limit $2`,
      [after, READ_ROWS],
    );
    for (const { event, event_id: id, age, handed_age: handedAge } of rows)
      read.push({ event: { ...event, id }, ageS: age, handedAgeS: handedAge ?? undefined });
    const last = rows.at(-1);
    if (last === undefined || rows.length < READ_ROWS) return read;
    after = last.id;
  }
};

const readStanding = async (client: pg.Client): Promise<StandingFact[]> => {
  const read: StandingFact[] = [];
  for (const statement of STANDING) {
    const { rows } = await client.query<{ what: string; fact: string; age: number }>(
      `select what, fact, extract(epoch from now() - created_at)::double precision as age
       from (${statement}) as stands`,
    );
    for (const { what, fact, age } of rows) read.push({ what, fact, ageS: age });
  }
  return read;
};

/**
 * Reads, of a control database, every change that must have an audit event: the outbox (30 days back), and what
 * stands: connections, auth-rules, keys, tokens, revocations. The URL is of a login that may read the schema. To be
 * called before the audit database is read, so that the events are at least as new.
 * @throws AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA
 */
export const readControlChanges = (databaseUrl: string): Promise<ControlChanges> =>
  withConnection(databaseUrl, 'sallyport-verify-control', async (client) => {
    await client.query('begin transaction isolation level repeatable read read only');
    const outbox = await readOutbox(client);
    const standing = await readStanding(client);
    await client.query('commit');
    return { outbox, standing, types: TYPES, factsOf };
  });
