import { X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Clock } from '../../runtime/index.ts';
import { RECHECK_MS, type ServerRevocation } from './server-revocation.ts';

/** Longest chain that is looked at. */
const MAX_CHAIN = 10;

/** The chain of a server after the handshake, its own certificate first, up to the trusted root. */
export const chainOf = (secure: TLSSocket): X509Certificate[] => {
  const chain: X509Certificate[] = [];
  // Null when the handshake was broken off, `{}` without a certificate.
  let at = secure.getPeerCertificate(true) as Partial<DetailedPeerCertificate> | null;
  while (at?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new X509Certificate(at.raw));
    const next: Partial<DetailedPeerCertificate> | undefined = at.issuerCertificate;
    if (next === undefined || next.fingerprint256 === at.fingerprint256) break;
    at = next;
  }
  return chain;
};

/** Waits for a client's TLS handshake. @throws what ended it */
export const handshakeOf = (secure: TLSSocket): Promise<void> =>
  new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const settle = (): void => {
      secure.off('secureConnect', onSecure).off('close', onClose);
    };
    const onSecure = (): void => {
      settle();
      resolve();
    };
    const onClose = (): void => {
      settle();
      reject(failure ?? new Error('connection closed'));
    };
    secure.on('error', (error: Error) => {
      failure = error;
    });
    secure.once('secureConnect', onSecure).once('close', onClose);
  });

/**
 * Waits for the handshake and for the word of the authority's lists, so that nothing is sent to a server whose
 * certificate is revoked. While the socket lives the lists are asked again, and a refusal then ends it.
 *
 * @throws what ended the handshake; AppError ERR_CERTIFICATE_REVOKED, ERR_CERTIFICATE_REVOCATION_UNKNOWN
 */
export const checkedHandshake = async (
  secure: TLSSocket,
  revocation: ServerRevocation,
  clock: Clock,
): Promise<void> => {
  await handshakeOf(secure);
  const chain = chainOf(secure);
  const gone = new AbortController();
  const onClose = (): void => {
    gone.abort();
  };
  secure.once('close', onClose);
  try {
    await revocation.check(chain, gone.signal);
  } catch (thrown) {
    secure.off('close', onClose);
    throw thrown;
  }
  if (secure.destroyed) throw new Error('connection closed');
  const again = clock
    .every(RECHECK_MS, () => {
      revocation.check(chain, gone.signal).catch((thrown: unknown) => {
        secure.destroy(thrown instanceof Error ? thrown : undefined);
      });
    })
    .unref();
  secure.once('close', () => again.cancel());
};
