import { z } from 'zod';
import { AppError, cleanText } from '../../runtime/index.ts';
import { TOKEN_PATTERN } from '../carrier/preamble.ts';
import type { ControlLinkErrorCode } from './errors.ts';

/** Longest control message, both ways. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
/** Longest list in one message; longer ones are paged with `next`. */
export const MAX_PAGE_ITEMS = 200;
const MAX_NAME_LENGTH = 128;
const MAX_TEXT_LENGTH = 512;
const MAX_TOKEN_LENGTH = 4 * 1024;
const MAX_LABELS = 64;

/** Foreign text: capped, well-formed, without NUL. */
const text = (most: number) =>
  z
    .string()
    .max(most)
    .transform((value) => cleanText(value, most));
const name = text(MAX_NAME_LENGTH);
const detail = text(MAX_TEXT_LENGTH);
const count = z.int().min(0);
const spki = z.string().regex(/^[0-9a-f]{64}$/);
const labels = z
  .record(name, text(MAX_TEXT_LENGTH))
  .refine((value) => Object.keys(value).length <= MAX_LABELS, `more than ${MAX_LABELS} labels`);
const page = <Item extends z.ZodType>(item: Item) => ({
  items: z.array(item).max(MAX_PAGE_ITEMS),
  next: text(MAX_NAME_LENGTH).optional(),
});
const claim = z.enum(['Listen', 'Send', 'Manage']);

const partyKey = z.object({
  kind: z.literal('sas'),
  id: name,
  principal: text(256),
  auth_rule: name,
  slot: z.enum(['primary', 'secondary']),
  claims: z.array(claim).max(3),
  proved_by: z.enum(['relay', 'agent']),
});

const offer = z.object({
  link_id: name,
  token: z.string().regex(TOKEN_PATTERN),
  node: text(256),
  connection: name,
  connection_id: name,
  peer: z.object({ spki, name, instance: name }),
  sender: partyKey,
  listener: partyKey,
  gateway: name,
  agent: name,
  source_address: name.optional(),
  labels: labels.optional(),
});

const streamInfo = z.object({
  stream_id: name,
  link_id: name,
  connection: name,
  principal: text(256),
  key_id: name,
  agent: name,
  gateway: name,
  target: text(300),
  opened_at: name,
  bytes_up: count,
  bytes_down: count,
  policy_rule: text(256).nullable(),
});

const failure = z.object({
  connection: name,
  stream_id: name,
  reason: name,
  at: name,
  decision_id: name.optional(),
  reasons: z
    .array(z.object({ code: name, args: z.unknown() }))
    .max(32)
    .optional(),
  detail: detail.optional(),
});

/** The payload of every message type of this version, by its name on the wire. */
export const MESSAGES = {
  hello: z.object({
    version: z.literal(1),
    features: z.array(name).max(64),
    build: name,
    instance: name.optional(),
    instance_secret: z.string().max(MAX_NAME_LENGTH).optional(),
    role: z.enum(['gateway', 'agent', 'relay']),
    name,
    namespace: text(256),
    login_id: name.optional(),
    /** The holder's name for the credential of the handshake. */
    handle: name.optional(),
    bundle_sha256: name.optional(),
    healthy: z.boolean().optional(),
    /** From a node: SHA-256 of its certificate's SPKI, so that an end sees whether it was shown another. */
    tls_spki: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  }),
  attach: z.object({ handle: name, connection: name, token: z.string().max(MAX_TOKEN_LENGTH) }),
  attached: z.object({
    handle: name,
    cred: name,
    key_id: name,
    principal: text(256),
    auth_rule: name,
    slot: z.enum(['primary', 'secondary']),
    claims: z.array(claim).max(3),
    connection: name,
    connection_id: name,
    expires_at_ms: count,
  }),
  renew: z.object({ cred: name, token: z.string().max(MAX_TOKEN_LENGTH) }),
  detach: z.object({ cred: name, reason: name.optional() }),
  'connection.set': z.object({
    name,
    connection_id: name,
    target: z.object({ host: text(256), port: z.int().min(1).max(65_535) }),
    labels,
  }),
  'connection.gone': z.object({ name }),
  publish: z.object({ cred: name, connection: name, spki }),
  published: z.object({ connection: name }),
  unpublish: z.object({ connection: name }),
  'link.request': z.object({
    cred: name,
    connection: name,
    spki,
    exclude: z.array(name).max(MAX_PAGE_ITEMS),
    want: name.optional(),
  }),
  'link.offer': offer,
  'link.refuse': z.object({ code: name, detail, retry_after_ms: count.optional() }),
  'link.failed': z.object({
    link_id: name,
    step: name,
    side: z.enum(['gateway', 'agent']),
    reason: name,
    detail: detail.optional(),
  }),
  'link.closed': z.object({ link_id: name, reason: name }),
  revoked: z.object({
    /** The dead key; empty when the notice is about an agent or a connection: an end of before finds nothing under it. */
    key_id: name,
    agent: name.optional(),
    instance: name.optional(),
    connection_id: name.optional(),
    reason: name,
    revocation_id: name,
    /** Told again, to an agent that logged in or did not answer. */
    again: z.boolean().optional(),
  }),
  ack: z.object({ links: count.optional(), streams: count.optional(), found: z.boolean().optional() }),
  'streams.query': z.object({ connection: name.optional(), next: text(MAX_NAME_LENGTH).optional() }),
  'streams.answer': z.object(page(streamInfo)),
  'stream.close': z.object({ stream_id: name, reason: name }),
  health: z.object({
    /** From a node: whether it hears its control database. */
    healthy: z.boolean().optional(),
    healthy_nodes: z.array(text(256)).max(MAX_PAGE_ITEMS).optional(),
    streams: count.optional(),
    bundle_sha256: name.optional(),
    bundle_sequence: count.optional(),
    failures: z.array(failure).max(MAX_PAGE_ITEMS).optional(),
  }),
  goaway: z.object({ deadline_ms: count }),
  error: z.object({ code: name, detail, status: count.optional() }),
} as const;

export type MessageType = keyof typeof MESSAGES;
export type Payload<T extends MessageType> = z.output<(typeof MESSAGES)[T]>;

/** One decoded message of a known type. */
export type ControlMessage = {
  [T in MessageType]: { readonly t: T; readonly id: number; readonly re?: number; readonly body: Payload<T> };
}[MessageType];

/** A well-formed envelope of a type that this build does not know: to be answered `error unsupported`. */
export interface UnknownMessage {
  readonly t: undefined;
  readonly type: string;
  readonly id: number;
}

const envelope = z.looseObject({
  t: z.string().max(64),
  id: z.int().min(1),
  re: z.int().min(1).optional(),
});

const invalid = (message: string): AppError<ControlLinkErrorCode> =>
  new AppError('ERR_CONTROL_LINK_MESSAGE', message);

const isKnown = (type: string): type is MessageType => Object.hasOwn(MESSAGES, type);

/** One message as text; unknown fields of the payload type cannot occur. */
export const encodeMessage = <T extends MessageType>(
  type: T,
  id: number,
  body: z.input<(typeof MESSAGES)[T]>,
  re?: number,
): string => JSON.stringify({ ...body, t: type, id, ...(re === undefined ? {} : { re }) });

/**
 * Reads one message. Unknown fields are dropped, foreign text is cleaned.
 *
 * @throws AppError ERR_CONTROL_LINK_MESSAGE
 */
export const decodeMessage = (bytes: string): ControlMessage | UnknownMessage => {
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw invalid(`message of ${bytes.length} characters is longer than ${MAX_MESSAGE_BYTES}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(bytes);
  } catch {
    throw invalid('message is not JSON');
  }
  const outer = envelope.safeParse(json);
  if (!outer.success) throw invalid('message has no valid {t, id, re}');
  const { t: type, id, re } = outer.data;
  if (!isKnown(type)) return { t: undefined, type: cleanText(type), id };
  const inner = MESSAGES[type].safeParse(json);
  if (!inner.success) {
    const issue = inner.error.issues[0];
    throw invalid(`message ${type} is invalid at ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  }
  return { t: type, id, ...(re === undefined ? {} : { re }), body: inner.data } as ControlMessage;
};
