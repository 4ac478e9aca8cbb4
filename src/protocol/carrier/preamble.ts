/** What the relay's one public port recognises besides its own HTTPS. */
const WORD = 'SALLYPORT/1';
/** The longest preamble line, its LF included. */
export const MAX_PREAMBLE_BYTES = 64;
/** A rendezvous token: 128 bits as lower-case hex. */
export const TOKEN_PATTERN = /^[0-9a-f]{32}$/;

/** The protocol inside a data link's TLS; the gateway selects it. */
export const LINK_PROTOCOL = 'sallyport.v1';
/** Header of a WebSocket handshake: `agent` or `gateway`. */
export const ROLE_HEADER = 'sallyport-role';
/** ALPN of a probe, answered with the relay's own certificate and its node name. */
export const PROBE_PROTOCOL = 'sp.probe';
const TOKEN_PREFIX = 'sp.';

/** The line a gateway sends first on a data carrier; it is not answered. */
export const linkPreamble = (token: string): string => `${WORD} link ${token}\n`;

/** The line that asks for a probe; the asker's TLS ClientHello follows. */
export const probePreamble = (): string => `${WORD} probe\n`;

/** The first ALPN entry of an agent's ClientHello. */
export const tokenProtocol = (token: string): string => `${TOKEN_PREFIX}${token}`;

/** The token of a first ALPN entry, or undefined when it is none of ours. */
export const tokenOfProtocol = (protocol: string): string | undefined => {
  if (!protocol.startsWith(TOKEN_PREFIX)) return undefined;
  const token = protocol.slice(TOKEN_PREFIX.length);
  return TOKEN_PATTERN.test(token) ? token : undefined;
};

export type Preamble = { readonly kind: 'link'; readonly token: string } | { readonly kind: 'probe' };

/** Reads a preamble line without its LF; undefined when it is malformed. */
export const parsePreamble = (line: string): Preamble | undefined => {
  if (line === `${WORD} probe`) return { kind: 'probe' };
  const prefix = `${WORD} link `;
  if (!line.startsWith(prefix)) return undefined;
  const token = line.slice(prefix.length);
  return TOKEN_PATTERN.test(token) ? { kind: 'link', token } : undefined;
};

/** Path of the WebSocket of a probe on a relay node. */
export const PROBE_PATH = '/.sallyport/v1/probe';

/** What a node tells whoever probes it. */
export interface ProbeAnswer {
  /** The public host that the node has by its own configuration. */
  readonly host: string;
  /** Which run of which process; undefined for an earlier build. */
  readonly run: string | undefined;
  /** SHA-256 of the SPKI of the node's own certificate; undefined for an earlier build. */
  readonly spki: string | undefined;
}

/** The lines that a probe is answered with. */
export const probeAnswer = ({ host, run, spki }: { [name in keyof ProbeAnswer]: string }): string =>
  `${WORD} node ${host}\n${WORD} run ${run}\n${WORD} key ${spki}\n`;

/** The longest answer to a probe that is read. */
export const MAX_PROBE_ANSWER_BYTES = 512;

const ANSWER =
  /^SALLYPORT\/1 node (\S{1,253})\n(?:SALLYPORT\/1 run (\S{1,64})\n)?(?:SALLYPORT\/1 key ([0-9a-f]{64})\n)?/;

/** Reads an answer to a probe; undefined when it is none. */
export const parseProbeAnswer = (text: string): ProbeAnswer | undefined => {
  const [, host, run, spki] = ANSWER.exec(text) ?? [];
  return host === undefined ? undefined : { host, run, spki };
};
