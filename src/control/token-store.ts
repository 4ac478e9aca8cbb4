import { newManagementToken, parseManagementToken, type Role } from '../identity/index.ts';
import { AppError } from '../runtime/index.ts';
import { appendEvent, stateOf } from './change-event.ts';
import type { ControlContext } from './context.ts';
import type { Transaction } from './database.ts';
import type { ControlErrorCode } from './errors.ts';
import type { TokenRecord } from './records.ts';

/** Who does what the program itself does. */
export const SYSTEM_ACTOR = 'system';
/** `last_used_at` is written at most this often per token, seconds. */
const TOUCH_EVERY_S = 60;
/** How long a one-time owner code waits for its exchange: relays are started a while after `init`. */
export const OWNER_CODE_LIFE_S = 24 * 60 * 60;
const OWNER_CODE_LABEL = 'owner code';

interface TokenRow {
  readonly id: string;
  readonly secret_sha256: Buffer;
  readonly label: string;
  readonly role: Role;
  readonly created_by: string;
  readonly created_at: Date;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
  readonly one_time: boolean;
}

const COLUMNS =
  'id, secret_sha256, label, role, created_by, created_at, expires_at, revoked_at, last_used_at, one_time';

const recordOf = (row: TokenRow): TokenRecord => ({
  id: row.id,
  label: row.label,
  role: row.role,
  oneTime: row.one_time,
  createdAt: row.created_at,
  createdBy: row.created_by,
  expiresAt: row.expires_at ?? undefined,
  revokedAt: row.revoked_at ?? undefined,
  lastUsedAt: row.last_used_at ?? undefined,
});

const viewOf = (record: TokenRecord): object => ({
  token_id: record.id,
  label: record.label,
  role: record.role,
  expires_at: record.expiresAt?.toISOString() ?? null,
  revoked: record.revokedAt !== undefined,
  ...(record.oneTime ? { one_time: true } : {}),
});

export interface NewToken {
  readonly label: string;
  readonly role: Role;
  /** Seconds until it expires; undefined: never. */
  readonly expiresAfterS: number | undefined;
  /** A code; needs an expiry. */
  readonly oneTime?: boolean;
}

/** A token with its text, shown this once. */
export interface CreatedToken {
  readonly record: TokenRecord;
  readonly text: string;
}

export const createToken = async (
  context: ControlContext,
  tx: Transaction,
  wanted: NewToken,
  actor: string,
): Promise<CreatedToken> => {
  const oneTime = wanted.oneTime ?? false;
  const token = newManagementToken(oneTime ? 'c' : 't');
  const rows = await tx.query<TokenRow>(
    `insert into control.token (id, secret_sha256, label, role, created_by, expires_at, one_time)
     values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7) returning ${COLUMNS}`,
    [token.id, token.secretDigest, wanted.label, wanted.role, actor, wanted.expiresAfterS ?? null, oneTime],
  );
  const row = rows[0];
  if (row === undefined)
    throw new AppError<ControlErrorCode>('ERR_CONTROL_UNAVAILABLE', 'token was not stored');
  const record = recordOf(row);
  await appendEvent(tx, context.clock, {
    type: 'admin.action',
    subject: { namespace: context.namespace, actor },
    data: { action: 'token.created', detail: stateOf(viewOf(record)) },
  });
  return { record, text: token.text };
};

/** At most `limit` tokens with an id above `after`. */
export const listTokens = async (
  context: ControlContext,
  after: string,
  limit: number,
): Promise<readonly TokenRecord[]> => {
  const rows = await context.database.query<TokenRow>(
    `select ${COLUMNS} from control.token where id collate "C" > $1 order by id collate "C" limit $2`,
    [after, limit],
  );
  return rows.map(recordOf);
};

const endToken = async (
  context: ControlContext,
  tx: Transaction,
  id: string,
  actor: string,
  action: 'token.revoked' | 'code.exchanged' = 'token.revoked',
): Promise<TokenRecord | undefined> => {
  const rows = await tx.query<TokenRow>(
    `update control.token set revoked_at = now() where id = $1 and revoked_at is null returning ${COLUMNS}`,
    [id],
  );
  const row = rows[0];
  if (row === undefined) return undefined;
  const record = recordOf(row);
  await appendEvent(tx, context.clock, {
    type: 'admin.action',
    subject: { namespace: context.namespace, actor },
    data: {
      action,
      before: stateOf(viewOf({ ...record, revokedAt: undefined })),
      detail: stateOf(viewOf(record)),
    },
  });
  return record;
};

/** Ends a token at once; ending it again changes nothing. @throws AppError ERR_CONTROL_NOT_FOUND */
export const revokeToken = async (context: ControlContext, id: string, actor: string): Promise<TokenRecord> =>
  context.database.transaction(async (tx) => {
    const ended = await endToken(context, tx, id, actor);
    if (ended !== undefined) return ended;
    const rows = await tx.query<TokenRow>(`select ${COLUMNS} from control.token where id = $1`, [id]);
    const row = rows[0];
    if (row === undefined) throw new AppError<ControlErrorCode>('ERR_CONTROL_NOT_FOUND', `no token ${id}`);
    return recordOf(row);
  });

/** Ends what the program itself made under a label. */
const endOwn = async (context: ControlContext, tx: Transaction, label: string): Promise<void> => {
  const old = await tx.query<{ id: string }>(
    `select id from control.token where label = $1 and created_by = $2 and revoked_at is null for update`,
    [label, SYSTEM_ACTOR],
  );
  for (const { id } of old) await endToken(context, tx, id, SYSTEM_ACTOR);
};

/** A new owner token in place of those of the same label, which end. */
export const replaceOwnerToken = async (context: ControlContext, label: string): Promise<CreatedToken> =>
  context.database.transaction(async (tx) => {
    await endOwn(context, tx, label);
    return createToken(context, tx, { label, role: 'owner', expiresAfterS: undefined }, SYSTEM_ACTOR);
  });

/** A new one-time owner code, good for 24 h, in place of those that were not used, which end. */
export const replaceOwnerCode = async (context: ControlContext): Promise<CreatedToken> =>
  context.database.transaction(async (tx) => {
    await endOwn(context, tx, OWNER_CODE_LABEL);
    const wanted = { label: OWNER_CODE_LABEL, expiresAfterS: OWNER_CODE_LIFE_S, oneTime: true };
    return createToken(context, tx, { ...wanted, role: 'owner' }, SYSTEM_ACTOR);
  });

/**
 * Makes a token of a code's role and ends the code, in one transaction: of several who try, one gets it.
 * @returns undefined when the code was used meanwhile
 * @throws AppError ERR_CONTROL_CONFLICT for what is no code
 */
export const exchangeCode = async (context: ControlContext, id: string): Promise<CreatedToken | undefined> =>
  context.database.transaction(async (tx) => {
    const ended = await endToken(context, tx, id, id, 'code.exchanged');
    if (ended === undefined) return undefined;
    if (!ended.oneTime)
      throw new AppError<ControlErrorCode>('ERR_CONTROL_CONFLICT', `${id} is a token and no one-time code`);
    return createToken(context, tx, { label: 'owner', role: ended.role, expiresAfterS: undefined }, id);
  });

/** The token of this text when it is good now, read from Postgres each time: revoking one is immediate. */
export const authenticateToken = async (
  context: ControlContext,
  text: string,
): Promise<{ readonly id: string; readonly role: Role; readonly oneTime: boolean } | undefined> => {
  const presented = parseManagementToken(text);
  if (presented === undefined) return undefined;
  const rows = await context.database.query<TokenRow & { readonly good: boolean; readonly touch: boolean }>(
    `select ${COLUMNS}, revoked_at is null and (expires_at is null or expires_at > now()) as good,
       last_used_at is null or last_used_at < now() - make_interval(secs => $2) as touch
     from control.token where id = $1`,
    [presented.id, TOUCH_EVERY_S],
  );
  const row = rows[0];
  if (row === undefined || !presented.matches(row.secret_sha256) || !row.good) return undefined;
  if (row.touch)
    await context.database.query('update control.token set last_used_at = now() where id = $1', [row.id]);
  return { id: row.id, role: row.role, oneTime: row.one_time };
};
