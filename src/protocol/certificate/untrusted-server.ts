import type { TLSSocket } from 'node:tls';
import { cleanText, foreignCodeOf, messageOf, UNTRUSTED_CERTIFICATE } from '../../runtime/index.ts';

/** OpenSSL's words when what came back was no TLS record. */
const NOT_TLS = /wrong version number|packet length too long|http request|record layer failure/;
/** Longest issuer that a message quotes, in UTF-16 code units. */
const MAX_ISSUER = 200;

const nameOf = (issuer: Readonly<Record<string, string | string[] | undefined>>): string =>
  Object.entries(issuer)
    .map(([attribute, value]) => `${attribute}=${[value].flat().join('+')}`)
    .join(', ');

/**
 * Watches a TLS handshake and answers who the server's certificate was issued by; undefined before it came. Node destroys
 * the socket in the tick in which it finds the certificate untrusted, so that it must be asked just before.
 */
export const issuerOf = (socket: TLSSocket): (() => string | undefined) => {
  let issuer: string | undefined;
  socket.prependOnceListener('secure', () => {
    // `{}` when there is no certificate, null when the handshake was broken off.
    const certificate = socket.getPeerCertificate() as Partial<
      ReturnType<TLSSocket['getPeerCertificate']>
    > | null;
    const from = certificate?.issuer;
    if (from !== undefined) issuer = cleanText(nameOf({ ...from }), MAX_ISSUER);
  });
  return () => issuer;
};

/** What is wrong with the authorities of this end, and what to do; undefined when the error is about something else. */
export const untrustedText = (
  error: unknown,
  told: { readonly host: string; readonly caFile: string | undefined; readonly issuer: string | undefined },
): string | undefined => {
  const code = foreignCodeOf(error);
  if (code === undefined || !UNTRUSTED_CERTIFICATE.has(code)) return undefined;
  const { host, caFile, issuer } = told;
  const by = issuer === undefined ? '' : `, issued by ${JSON.stringify(issuer)},`;
  const [place, step] =
    caFile === undefined
      ? [
          'the system, and ca_file is not set',
          'name the file with the certificate of the authority that issued it as ca_file',
        ]
      : [
          `ca_file ${caFile}`,
          'put the certificate of the authority that issued it (PEM) into ca_file and restart',
        ];
  return `the server's certificate${by} is vouched for by no authority of ${place} (${code}: ${messageOf(error)}); ${step}, or correct relays: ${host} may not be the relay`;
};

/** What to say when the other side answered in something that is not TLS; undefined when the error is about something else. */
export const notTlsText = (error: unknown, address: string): string | undefined => {
  const code = foreignCodeOf(error) ?? '';
  if ((code !== 'EPROTO' && !code.startsWith('ERR_SSL_')) || !NOT_TLS.test(messageOf(error)))
    return undefined;
  return `${address} does not speak TLS: is it the relay's control port? (${code})`;
};
