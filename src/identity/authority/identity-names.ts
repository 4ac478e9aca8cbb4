import { AppError } from '../../runtime/index.ts';
import type { IdentityErrorCode } from '../errors.ts';

/** Which side of data links an identity stands on: agents listen, gateways send. */
export type IdentityKind = 'agent' | 'gateway';

/** Who holds a key, and the connections that it may serve or open. */
export interface Identity {
  readonly kind: IdentityKind;
  /** `[a-z0-9-]{1,63}` */
  readonly name: string;
  readonly namespace: string;
  /** Names of connections, sorted, each once; at most MAX_SCOPE_CONNECTIONS. */
  readonly connections: readonly string[];
}

/** A certificate of so many connections has 20 KiB; a TLS handshake takes 16 KiB a record and several records. */
export const MAX_SCOPE_CONNECTIONS = 200;

/** What one may do at a connection, by its side. */
const CLAIM_OF: Readonly<Record<IdentityKind, 'listen' | 'send'>> = { agent: 'listen', gateway: 'send' };

const NAMESPACE = '[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?';
const NAME = '[a-z0-9-]{1,63}';
const PARTY = new RegExp(`^sallyport://(${NAMESPACE})/(agent|gateway)/(${NAME})$`);
const CONNECTION = new RegExp(`^sallyport://(${NAMESPACE})/connection/(${NAME})#(listen|send)$`);
const AUTHORITY = new RegExp(`^sallyport://(${NAMESPACE})/authority$`);

const refuse = (message: string): AppError<IdentityErrorCode> =>
  new AppError<IdentityErrorCode>('ERR_IDENTITY_CERTIFICATE', message);

export const authorityUri = (namespace: string): string => `sallyport://${namespace}/authority`;

/** The namespace of an authority's URI; undefined for any other text. */
export const namespaceOfAuthority = (uri: string): string | undefined => AUTHORITY.exec(uri)?.[1];

/**
 * The URIs of a certificate: the holder's own first, then one for each connection.
 * @throws AppError ERR_IDENTITY_CERTIFICATE for names that no certificate may have
 */
export const identityUris = ({ kind, name, namespace, connections }: Identity): string[] => {
  const uris = [
    `sallyport://${namespace}/${kind}/${name}`,
    ...connections.map((connection) => `sallyport://${namespace}/connection/${connection}#${CLAIM_OF[kind]}`),
  ];
  const read = identityOfUris(uris);
  if (read.connections.some((connection, index) => connection !== connections[index]))
    throw refuse('connections of an identity are sorted');
  return uris;
};

/**
 * Reads the URIs of a certificate, all of them: whatever else is among them refuses it.
 * @throws AppError ERR_IDENTITY_CERTIFICATE
 */
export const identityOfUris = (uris: readonly string[]): Identity => {
  let party: { namespace: string; kind: IdentityKind; name: string } | undefined;
  const connections = new Map<string, { namespace: string; claim: string }>();
  for (const uri of uris) {
    const [, namespace, kind, name] = PARTY.exec(uri) ?? [];
    if (namespace !== undefined && name !== undefined) {
      if (party !== undefined) throw refuse('it names more than one holder');
      party = { namespace, kind: kind === 'agent' ? 'agent' : 'gateway', name };
      continue;
    }
    const [, of, connection, claim] = CONNECTION.exec(uri) ?? [];
    if (of === undefined || connection === undefined || claim === undefined)
      throw refuse(`it has the name ${JSON.stringify(uri.slice(0, 200))}, which is none of an identity`);
    if (connections.has(connection)) throw refuse(`it names connection ${connection} twice`);
    connections.set(connection, { namespace: of, claim });
  }
  if (party === undefined) throw refuse('it names no agent and no gateway');
  const { kind, namespace } = party;
  if (connections.size > MAX_SCOPE_CONNECTIONS)
    throw refuse(`it names ${connections.size} connections, the limit is ${MAX_SCOPE_CONNECTIONS}`);
  for (const [connection, { namespace: of, claim }] of connections) {
    if (of !== namespace)
      throw refuse(`connection ${connection} is of namespace ${of}, its holder of ${namespace}`);
    if (claim !== CLAIM_OF[kind]) throw refuse(`an ${kind} cannot ${claim} at connection ${connection}`);
  }
  return { ...party, connections: [...connections.keys()].sort() };
};
