import { isIP } from 'node:net';
import { cleanText, withoutZone } from '../../runtime/index.ts';

/** What a column can hold; the emitter checks it, so that the database never has to refuse an event. */
export type FieldKind = 'text' | 'uuid' | 'address' | 'port' | 'int' | 'bigint' | 'duration' | 'boolean';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAX_INT = 2 ** 31 - 1;
const MAX_PORT = 65_535;

const wholeUpTo = (value: unknown, limit: number): number | undefined =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit ? value : undefined;

/** The value a field of this kind keeps, or `undefined` when it does not fit. */
export const fitField = (kind: FieldKind, value: unknown): string | number | boolean | undefined => {
  switch (kind) {
    case 'text':
      return typeof value === 'string' ? cleanText(value) : undefined;
    case 'uuid': {
      const text = typeof value === 'string' ? value.toLowerCase() : '';
      return UUID.test(text) ? text : undefined;
    }
    case 'address': {
      const address = typeof value === 'string' ? withoutZone(value) : '';
      return isIP(address) === 0 ? undefined : address;
    }
    case 'port':
      return wholeUpTo(value, MAX_PORT);
    case 'int':
      return wholeUpTo(value, MAX_INT);
    case 'bigint':
      return wholeUpTo(value, Number.MAX_SAFE_INTEGER);
    case 'duration':
      return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
    case 'boolean':
      return typeof value === 'boolean' ? value : undefined;
  }
};

/** Kinds of the subject's fields, in the order of the canonical form (sorted by name). */
export const SUBJECT_FIELDS = {
  actor: 'text',
  agent: 'text',
  attempt: 'int',
  auth_rule: 'text',
  carrier: 'text',
  client_addr: 'address',
  client_port: 'port',
  connection: 'text',
  connection_id: 'text',
  gateway: 'text',
  identity_id: 'text',
  key_id: 'text',
  key_kind: 'text',
  key_slot: 'text',
  link_id: 'uuid',
  listener_key_id: 'text',
  listener_principal: 'text',
  login_id: 'text',
  namespace: 'text',
  own_spki: 'text',
  peer_spki: 'text',
  principal: 'text',
  proved_by: 'text',
  relay: 'text',
  site: 'text',
  source_addr: 'address',
  stream_id: 'uuid',
  stream_kind: 'text',
  stream_no: 'bigint',
  target_addr: 'address',
  target_host: 'text',
  target_port: 'port',
} as const satisfies Record<string, FieldKind>;

/** Kinds of the members of `data` that become columns. */
export const DATA_FIELDS = {
  allow: 'boolean',
  bytes_down: 'bigint',
  bytes_up: 'bigint',
  decided_by: 'text',
  dial_ms: 'duration',
  duration_ms: 'duration',
  eval_us: 'duration',
  managed_sha256: 'text',
  reason: 'text',
  rule: 'text',
  shadow: 'boolean',
} as const satisfies Record<string, FieldKind>;
