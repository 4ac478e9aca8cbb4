/** What the relay's one public port recognises besides its own HTTPS. */
const WORD = 'SALLYPORT/1';
/** The longest preamble line, its LF included. */
export const MAX_PREAMBLE_BYTES = 64;
/** A rendezvous token: 128 bits as lower-case hex. */
export const TOKEN_PATTERN = /^[0-9a-f]{32}$/;

/** The protocol inside a data link's TLS; the gateway selects it. */
export const LINK_PROTOCOL = 'sallyport.v1';
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

/** What a probe is answered with: the node's public host, and the run of its process. */
export const probeAnswer = (host: string, run: string): string =>
  `${WORD} node ${host}\n${WORD} run ${run}\n`;

/** The longest answer to a probe that is read. */
export const MAX_PROBE_ANSWER_BYTES = 512;

const ANSWER = /^SALLYPORT\/1 node (\S{1,253})\n(?:SALLYPORT\/1 run (\S{1,64})\n)?/;

/** Reads an answer to a probe; undefined when it is none. Nodes of earlier builds tell no run. */
export const parseProbeAnswer = (
  text: string,
): { readonly host: string; readonly run: string | undefined } | undefined => {
  const [, host, run] = ANSWER.exec(text) ?? [];
  return host === undefined ? undefined : { host, run };
};
