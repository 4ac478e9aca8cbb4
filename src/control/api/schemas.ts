import { z } from 'zod';
import {
  CLAIMS,
  isAuthRuleName,
  isConnectionName,
  isKeyId,
  isManagementTokenId,
  MAX_AUTH_RULE_NAME_LENGTH,
  MAX_CONNECTION_NAME_LENGTH,
  ROLES,
} from '../../identity/index.ts';
import { NAMESPACE_SCOPE } from '../context.ts';
import { MAX_RETIRE_AFTER_S } from '../key-rotation.ts';
import { REVOCATION_KINDS } from '../records.ts';

/** Largest request body. */
export const MAX_BODY_BYTES = 64 * 1024;
/** DNS limit of a host name (RFC 1035 §2.3.4). */
const MAX_HOST_LENGTH = 253;
const MAX_LABELS = 32;
const MAX_LABEL_NAME_LENGTH = 63;
const MAX_LABEL_VALUE_LENGTH = 256;
const MAX_REASON_LENGTH = 500;
const MAX_TOKEN_LABEL_LENGTH = 100;
const MAX_CURSOR_LENGTH = 1_024;
const MAX_TOKEN_LIFE_S = 10 * 365 * 24 * 60 * 60;
const MIN_TOKEN_LIFE_S = 60;
export const MAX_PAGE = 200;
const DEFAULT_PAGE = 100;

const CONTROL_CHARACTERS = /[\u0000-\u001f\u007f-\u009f]/;

/** One line of text that Postgres, terminals and canonical JSON can hold. */
const line = (maxLength: number) =>
  z
    .string()
    .max(maxLength)
    .refine((text) => text.isWellFormed() && !CONTROL_CHARACTERS.test(text), {
      error: 'holds control characters or broken Unicode (lone surrogates)',
    });

const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})?)*\.?$/;
const IPV6 = /^[0-9a-fA-F:.]{2,45}$/;

export const connectionName = z
  .string()
  .max(MAX_CONNECTION_NAME_LENGTH)
  .refine(isConnectionName, {
    error: `is not a connection name: 1 to ${MAX_CONNECTION_NAME_LENGTH} of a-z, 0-9 and "-"`,
  });

/** A name that a new connection may have. */
export const newConnectionName = connectionName.refine((name) => name !== NAMESPACE_SCOPE, {
  error: `"${NAMESPACE_SCOPE}" is reserved`,
});

/** A connection's name, or `namespace` for what belongs to the namespace itself. */
export const scopeName = connectionName.describe('a connection, or "namespace"');

export const authRuleName = z
  .string()
  .max(MAX_AUTH_RULE_NAME_LENGTH)
  .refine(isAuthRuleName, {
    error: `is not an auth-rule name: 1 to ${MAX_AUTH_RULE_NAME_LENGTH} letters, digits, ".", "_", "-"`,
  });

export const keyId = z.string().refine(isKeyId, { error: 'is not a key id (k_ and 20 hex digits)' });
const AGENT_NAME = /^[a-z0-9-]{1,63}$/;
export const agentName = z
  .string()
  .regex(AGENT_NAME, { error: 'is not the name of an agent: 1 to 63 of a-z, 0-9 and "-"' });
/** As a process says it at its login; ours are UUIDs. */
export const agentInstance = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,128}$/, { error: 'is not an instance: 1 to 128 letters, digits and "-"' });
export const tokenId = z
  .string()
  .refine(isManagementTokenId, { error: 'is not a token id (t_ or c_, and 16 hex digits)' });
export const slot = z.enum(['primary', 'secondary']);
export const claim = z.enum(CLAIMS);
export const role = z.enum(ROLES);
export const reason = line(MAX_REASON_LENGTH);
export const tokenLabel = line(MAX_TOKEN_LABEL_LENGTH).min(1);
export const retireAfterSeconds = z.int().min(0).max(MAX_RETIRE_AFTER_S);
export const tokenLifeSeconds = z.int().min(MIN_TOKEN_LIFE_S).max(MAX_TOKEN_LIFE_S);

export const target = z.strictObject({
  host: z
    .string()
    .max(MAX_HOST_LENGTH)
    .refine((host) => HOST_NAME.test(host) || (host.includes(':') && IPV6.test(host)), {
      error: `is not a host name or an IP address without zone (at most ${MAX_HOST_LENGTH} characters)`,
    }),
  port: z.int().min(1).max(65_535),
});

const LABEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]*$/;

export const labels = z
  .record(
    z
      .string()
      .max(MAX_LABEL_NAME_LENGTH)
      .regex(LABEL_NAME, { error: 'is not a label name: letters, digits, "._/-"' }),
    line(MAX_LABEL_VALUE_LENGTH),
  )
  .refine((all) => Object.keys(all).length <= MAX_LABELS, { error: `more than ${MAX_LABELS} labels` });

export const paging = {
  cursor: z.string().max(MAX_CURSOR_LENGTH).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(DEFAULT_PAGE),
};

/** Largest page of what is asked live: each page asks anew. */
export const MAX_LIVE_PAGE = 1_000;

export const livePaging = {
  cursor: paging.cursor,
  limit: z.coerce.number().int().min(1).max(MAX_LIVE_PAGE).default(MAX_LIVE_PAGE),
};

export const timestamp = z.iso.datetime();

export const connectionView = z.object({
  id: z.uuid(),
  name: z.string(),
  target: z.object({ host: z.string(), port: z.int() }),
  labels: z.record(z.string(), z.string()),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});

export const disclosedKeyView = z.object({
  key_id: z.string(),
  connection: z.string().nullable(),
  auth_rule: z.string(),
  slot,
  key: z.string(),
  connection_string: z.string(),
});

export const authRuleView = z.object({
  connection: z.string().nullable(),
  name: z.string(),
  claims: z.array(claim),
  /** Rises with each rotation; the ETag. */
  version: z.int(),
  created_at: timestamp,
});

export const keyView = z.object({
  key_id: z.string(),
  connection: z.string().nullable(),
  auth_rule: z.string(),
  slot,
  claims: z.array(claim),
  state: z.enum(['active', 'retiring', 'revoked']),
  last_used_at: timestamp.nullable(),
  created_at: timestamp,
  retire_at: timestamp.nullable(),
});

/** Where the enforcement of one or more revocations stands. */
export const enforcementView = z.object({
  nodes: z.int(),
  links: z.int(),
  streams: z.int().nullable(),
  ms: z.number(),
  pending: z.array(z.object({ kind: z.enum(['node', 'agent']), name: z.string(), since: timestamp })),
});

export const revokeAgentView = z.object({
  agent: z.string(),
  instance: z.string().nullable(),
  ...enforcementView.shape,
  dry_run: z.literal(true).optional(),
  /** With `dry_run`: how many logins would end. */
  logins: z.int().optional(),
});

export const revocationView = z.object({
  revocation_id: z.string(),
  key_id: z.string().nullable(),
  agent: z.string().nullable(),
  instance: z.string().nullable(),
  kind: z.enum(REVOCATION_KINDS),
  reason: z.string(),
  connection: z.string().nullable(),
  auth_rule: z.string().nullable(),
  slot: slot.nullable(),
  actor: z.string(),
  created_at: timestamp,
  effective_at: timestamp,
});

export const revokeView = z.object({
  key_id: z.string(),
  ...enforcementView.shape,
  dry_run: z.literal(true).optional(),
  /** With `dry_run`: the key that would die. */
  key: keyView.optional(),
});

const agentCredential = z.object({
  connection: z.string().nullable(),
  key_id: z.string(),
  principal: z.string(),
});

/** One installation of an agent, over every live node. */
export const agentView = z.object({
  name: z.string(),
  instance: z.string(),
  since: timestamp,
  build: z.string().nullable(),
  bundle_sha256: z.string().nullable(),
  bundle_sequence: z.int().nullable(),
  credentials: z.array(agentCredential),
  published: z.array(z.string()),
  links: z.int(),
  streams: z.int(),
  nodes: z.array(
    z.object({
      node: z.string(),
      login_id: z.string(),
      since: timestamp,
      address: z.string().nullable(),
      state: z.enum(['up', 'down']),
      published: z.array(z.string()),
      links: z.int(),
    }),
  ),
});

export const tokenView = z.object({
  id: z.string(),
  label: z.string(),
  role,
  /** A code, good for one exchange into a token. */
  one_time: z.boolean(),
  created_by: z.string(),
  created_at: timestamp,
  expires_at: timestamp.nullable(),
  revoked_at: timestamp.nullable(),
  last_used_at: timestamp.nullable(),
});

/** A page of things; `next` is the cursor of the next one, null at the end. */
export const page = <Item extends z.ZodType>(item: Item) =>
  z.object({ items: z.array(item), next: z.string().nullable() });

export type AgentView = z.infer<typeof agentView>;
export type ConnectionView = z.infer<typeof connectionView>;
export type DisclosedKeyView = z.infer<typeof disclosedKeyView>;
export type AuthRuleView = z.infer<typeof authRuleView>;
export type KeyView = z.infer<typeof keyView>;
export type EnforcementView = z.infer<typeof enforcementView>;
export type RevocationView = z.infer<typeof revocationView>;
export type RevokeAgentView = z.infer<typeof revokeAgentView>;
export type RevokeView = z.infer<typeof revokeView>;
export type TokenView = z.infer<typeof tokenView>;
