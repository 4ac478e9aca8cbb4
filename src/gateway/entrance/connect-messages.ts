import { STATUS_CODES } from 'node:http';
import { cleanText } from '../../runtime/index.ts';

/** Target, names and values of headers together, bytes, as Node's parser counts them; beyond, 431. */
export const MAX_HEADER_BYTES = 16 * 1024;
/** `HOST:PORT` of a request, characters: the longest name (253), a dot, and a port; beyond, 414. */
export const MAX_AUTHORITY_LENGTH = 253 + '.:65535'.length;

/** Names of headers that answers carry; docs/entrances.md lists them. */
export const HEADER = {
  reason: 'Sallyport-Reason',
  stream: 'Sallyport-Stream',
  decision: 'Sallyport-Decision',
} as const;

export interface Refused {
  readonly status: number;
  /** A reason of the stream, or a cause of the entrance. */
  readonly reason: string;
  /** One plain sentence. */
  readonly text: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const head = (status: number, text: string, headers: Readonly<Record<string, string>>): string =>
  [
    `HTTP/1.1 ${status} ${text}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    '',
    '',
  ].join('\r\n');

/** The answer that makes the connection a tunnel (RFC 9110 §9.3.6): neither length nor content. */
export const tunnelAnswer = (streamId: string): string =>
  head(200, 'Connection established', { [HEADER.stream]: streamId });

/** An answer that ends the connection. */
export const refusalAnswer = ({ status, reason, text, headers }: Refused): string => {
  const body = `${reason}: ${cleanText(text)}\n`;
  return `${head(status, STATUS_CODES[status] ?? 'Refused', {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(body)),
    'Cache-Control': 'no-store',
    Connection: 'close',
    [HEADER.reason]: reason,
    ...headers,
  })}${body}`;
};

const BASIC = /^basic +([a-z0-9+/]+={0,2}) *$/i;
const COLON = 0x3a;

/** Name and password of `Proxy-Authorization: Basic …` (RFC 7617); undefined for anything else. */
export const basicLogin = (
  header: string | undefined,
): { readonly name: Buffer; readonly password: Buffer } | undefined => {
  const bytes = Buffer.from(BASIC.exec(header ?? '')?.[1] ?? '', 'base64');
  const colon = bytes.indexOf(COLON);
  return colon === -1 ? undefined : { name: bytes.subarray(0, colon), password: bytes.subarray(colon + 1) };
};
