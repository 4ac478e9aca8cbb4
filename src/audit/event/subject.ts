import { z } from 'zod';

const text = z.string().optional();
const whole = z.int().nonnegative().optional();

/**
 * Whom and what an event is about: names are the columns of `audit.event`. All optional. Foreign text may
 * be anything; it is cleaned when the event is encoded.
 */
export const subjectSchema = z.strictObject({
  namespace: text,
  agent: text,
  relay: text,
  gateway: text,
  connection: text,
  connection_id: text,
  principal: text,
  auth_rule: text,
  key_id: text,
  key_slot: text,
  key_kind: text,
  identity_id: text,
  /** Who proved the key: `relay` or `agent`. */
  proved_by: text,
  listener_principal: text,
  listener_key_id: text,
  /** UUID. */
  stream_id: text,
  stream_no: whole,
  stream_kind: text,
  attempt: whole,
  /** UUID. */
  link_id: text,
  carrier: text,
  own_spki: text,
  peer_spki: text,
  login_id: text,
  site: text,
  /** IP address without port; a zone id is stripped. */
  client_addr: text,
  client_port: whole,
  /** IP address. */
  source_addr: text,
  target_host: text,
  /** IP address. */
  target_addr: text,
  target_port: whole,
  /** Who asked for a change, for control-plane events. */
  actor: text,
});

export type Subject = z.input<typeof subjectSchema>;
