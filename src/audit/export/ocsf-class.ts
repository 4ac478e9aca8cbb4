import { isIP } from 'node:net';
import type { Envelope } from '../event/projection.ts';

type Members = Readonly<Record<string, unknown>>;

/** OCSF `hostname_t`, and nothing else that a name of ours might be. */
const HOSTNAME =
  /^(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$/;
const TCP = 6;
const SERVER = 1;
const UNKNOWN = 0;
const OTHER = 99;
const NETWORK_LOGON = 3;
const OUTBOUND = 2;
const ENABLED = 2;

const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined;

const numberOf = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);

/** The first that is there; the last is a word that is always true. */
const firstOf = (...values: [...unknown[], string]): string =>
  values.map(textOf).find((text) => text !== undefined) ?? '';

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** Whose credential or identity it is about. */
const userOf = ({ subject, data }: Envelope): Members => ({
  name: firstOf(
    subject['principal'],
    subject['auth_rule'],
    subject['identity_id'],
    subject['key_id'],
    data['name'],
    data['claimed_key_name'],
    data['claimed_token_id'],
    data['signer'],
    subject['listener_principal'],
    subject['login_id'],
    'unknown',
  ),
  uid: textOf(subject['identity_id']) ?? textOf(subject['key_id']) ?? textOf(data['signer']),
  credential_uid: textOf(subject['key_id']),
});

const actorOf = ({ subject, origin }: Envelope): Members => {
  const actor = textOf(subject['actor']);
  return actor === undefined
    ? { app_name: `sallyport ${origin.kind ?? ''}`.trim(), app_uid: origin.instance }
    : { user: { name: actor, uid: actor } };
};

/** Whom the relay saw: the address is observed, a client that the gateway names is a claim and stays unmapped. */
const sourceOf = ({ subject, data }: Envelope): Members | undefined => {
  const seen = textOf(subject['source_addr']) ?? textOf(data['address']);
  const ip = seen !== undefined && isIP(seen) !== 0 ? seen : undefined;
  const name = textOf(subject['gateway']) ?? (ip === undefined ? seen : undefined);
  if (ip === undefined && name === undefined) return undefined;
  const principal = textOf(subject['principal']);
  const owner =
    principal === undefined ? undefined : { name: principal, credential_uid: textOf(subject['key_id']) };
  return { ip, name, owner };
};

const hostOf = (host: string | undefined): Members =>
  host !== undefined && HOSTNAME.test(host) ? { hostname: host } : { name: host };

const networkActivity = (envelope: Envelope): Members => {
  const { subject, data, origin } = envelope;
  const ip = textOf(subject['target_addr']);
  const host = textOf(subject['target_host']);
  const isStream = ip !== undefined || host !== undefined;
  const up = numberOf(data['bytes_up']);
  const down = numberOf(data['bytes_down']);
  const duration = numberOf(data['duration_ms']);
  return {
    src_endpoint: sourceOf(envelope),
    // A link, and a stream that was refused before it had a target, ends at whoever recorded it.
    dst_endpoint: isStream
      ? {
          ...hostOf(host),
          ip,
          port: numberOf(subject['target_port']),
          svc_name: textOf(subject['connection']),
        }
      : { name: firstOf(origin.name, 'unknown'), svc_name: textOf(subject['connection']) },
    connection_info: {
      direction_id: isStream ? OUTBOUND : UNKNOWN,
      protocol_num: TCP,
      protocol_name: 'tcp',
      uid: textOf(subject['stream_id']) ?? textOf(subject['link_id']),
    },
    ...(up === undefined && down === undefined
      ? {}
      : { traffic: { bytes_out: up, bytes_in: down, bytes: (up ?? 0) + (down ?? 0) } }),
    duration: duration === undefined ? undefined : Math.round(duration),
  };
};

const authentication = (envelope: Envelope): Members => {
  const { subject, origin } = envelope;
  return {
    user: userOf(envelope),
    service: { name: 'sallyport', uid: origin.instance, version: origin.version },
    dst_endpoint: { name: firstOf(subject['relay'], origin.name, 'unknown') },
    src_endpoint: sourceOf(envelope),
    auth_protocol: 'SAS',
    auth_protocol_id: OTHER,
    logon_type_id: NETWORK_LOGON,
    is_remote: true,
    session: { uid: textOf(subject['login_id']) },
  };
};

const accountChange = (envelope: Envelope): Members => ({
  actor: actorOf(envelope),
  user: userOf(envelope),
  src_endpoint: sourceOf(envelope),
});

const claimsOf = (data: Members): string[] => {
  const after = data['after'];
  if (typeof after !== 'object' || after === null) return [];
  return listOf((after as Members)['claims']).map(String);
};

const userAccess = (envelope: Envelope): Members => {
  const { type, subject, data } = envelope;
  const claims = claimsOf(data);
  const connection = textOf(subject['connection']);
  return {
    actor: actorOf(envelope),
    user: userOf(envelope),
    privileges:
      claims.length > 0 ? claims : [type === 'publish.decision' || type === 'unpublish' ? 'Listen' : type],
    resource:
      connection === undefined
        ? undefined
        : { name: connection, uid: textOf(subject['connection_id']), type: 'connection' },
  };
};

const configState = ({ subject, origin, type }: Envelope): Members => ({
  device: {
    type_id: SERVER,
    name: firstOf(subject['agent'], origin.name, 'unknown'),
    uid: firstOf(origin.instance, origin.name, 'unknown'),
  },
  actor: { app_name: 'sallyport agent', app_uid: origin.instance },
  state_id: type === 'bundle.activated' || type === 'managed.changed' ? ENABLED : OTHER,
  ...(type === 'bundle.activated' || type === 'managed.changed' ? {} : { state: type }),
});

const lifecycle = ({ origin }: Envelope): Members => ({
  app: {
    name: `Sallyport ${origin.kind ?? 'process'}`,
    vendor_name: 'Sallyport',
    uid: firstOf(origin.instance, origin.name, 'unknown'),
    version: origin.version,
  },
});

const apiActivity = (envelope: Envelope): Members => {
  const { type, subject, data } = envelope;
  const connection = textOf(subject['connection']);
  return {
    actor: actorOf(envelope),
    api: { operation: firstOf(data['action'], type), service: { name: 'sallyport' } },
    src_endpoint: sourceOf(envelope) ?? { name: firstOf(subject['actor'], 'unknown') },
    ...(connection === undefined
      ? {}
      : { resources: [{ name: connection, uid: textOf(subject['connection_id']), type: 'connection' }] }),
  };
};

const MEMBERS: Readonly<Record<number, (envelope: Envelope) => Members>> = {
  3001: accountChange,
  3002: authentication,
  3005: userAccess,
  4001: networkActivity,
  5019: configState,
  6002: lifecycle,
  6003: apiActivity,
};

/** What a class of OCSF asks for beyond the members that all have. */
export const classMembers = (classUid: number, envelope: Envelope): Members =>
  MEMBERS[classUid]?.(envelope) ?? {};
