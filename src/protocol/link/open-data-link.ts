import { isIP } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { constants } from 'node:crypto';
import {
  type Clock,
  type LinkCertificate,
  type Logger,
  messageOf,
  randomBytes,
  uuidv7,
} from '../../runtime/index.ts';
import { carrierChoices } from '../carrier/choice.ts';
import type { NodeCarriers } from '../carrier/node-carriers.ts';
import { type OpenCarrier, openCarrier } from '../carrier/open-carrier.ts';
import { LINK_PROTOCOL, linkPreamble, tokenProtocol } from '../carrier/preamble.ts';
import type { ServerRevocation } from '../certificate/server-revocation.ts';
import { SESSION_LIMITS } from '../session/constants.ts';
import { encodeHello, HelloReader } from '../session/hello.ts';
import type { Hello } from '../session/types.ts';
import { type AuthenticatedPeer, authenticatePeer, checkPinned } from './authenticated-peer.ts';
import { LinkError, type LinkStep } from './errors.ts';
import type { LinkOffer, RelayNodeConfig, Side } from './offer.ts';

/** From the carrier's connect to the checked HELLO; `TLSSocket` has no handshake timeout of its own. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
const SECRET_BYTES = 16;

/** What this end says of itself in HELLO. */
export interface OwnParty {
  readonly name: string;
  readonly instance: string;
  readonly namespace: string;
  readonly build: string;
}

export interface DataLinkOptions {
  readonly side: Side;
  readonly offer: LinkOffer;
  /** The node of one's own configuration whose `host` the offer names. */
  readonly node: RelayNodeConfig;
  /** PEM of the authorities that vouch for the node, for the WebSocket carrier; default: the system's. */
  readonly ca?: string | undefined;
  /** Whether the node's certificate is revoked, for the WebSocket carrier; undefined: nobody is asked. */
  readonly revocation?: ServerRevocation | undefined;
  /** What is known of the ways to the node; undefined: its carriers in order. */
  readonly carriers?: NodeCarriers | undefined;
  readonly certificate: LinkCertificate;
  readonly own: OwnParty;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Announced in HELLO; default `SESSION_LIMITS`. */
  readonly limits?: Hello['limits'];
  /** Aborting destroys what there is and fails the promise. */
  readonly signal?: AbortSignal;
}

const ownHello = (options: DataLinkOptions): Hello => ({
  v: 1,
  role: options.side,
  namespace: options.own.namespace,
  connection: options.offer.connection,
  link_id: options.offer.link_id,
  name: options.own.name,
  instance: options.own.instance,
  session_id: uuidv7(options.clock),
  epoch: 0,
  secret: randomBytes(SECRET_BYTES).toString('hex'),
  limits: options.limits ?? SESSION_LIMITS,
  features: [],
  build: options.own.build,
});

/** Reaches the node by the first carrier that comes about. */
const reachNode = async (options: DataLinkOptions): Promise<OpenCarrier> => {
  const { node, offer, side, ca, revocation, carriers, clock, signal } = options;
  if (offer.node !== node.host) {
    const message = `offer names node ${offer.node}, which is not the configured ${node.host}`;
    throw new LinkError('ERR_LINK_NODE', 'dial', 'link_failed', message);
  }
  const failures: string[] = [];
  let last: unknown;
  for (const choice of (await carriers?.order(signal)) ?? carrierChoices(node)) {
    try {
      const carrier = await openCarrier({
        host: node.host,
        choice,
        side,
        token: offer.token,
        ca,
        revocation,
        clock,
        signal,
        proxies: carriers?.proxies,
      });
      carriers?.tried(choice, undefined);
      return carrier;
    } catch (thrown) {
      last = thrown;
      failures.push(messageOf(thrown));
      if (signal?.aborted === true) break;
      carriers?.tried(choice, messageOf(thrown));
    }
  }
  const message = `no data port of ${node.host} answers: ${failures.join('; ')}`;
  throw new LinkError('ERR_LINK_DIAL', 'dial', 'link_failed', message, { retryable: true, cause: last });
};

/** 128 bits first: a little less work per byte, and both ends take the other suites too. */
const CIPHER_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

/** TLS 1.3 alone; the certificates are self-signed, `authenticatePeer` checks them by their pinned key. */
const tlsSettings = (certificate: LinkCertificate) => ({
  cert: certificate.certPem,
  key: certificate.keyPem,
  minVersion: 'TLSv1.3' as const,
  maxVersion: 'TLSv1.3' as const,
  ciphers: CIPHER_SUITES,
  rejectUnauthorized: false,
  requestCert: true,
  secureOptions: constants.SSL_OP_NO_TICKET,
});

const startTls = (options: DataLinkOptions, { stream, choice }: OpenCarrier): TLSSocket => {
  const { token, node } = options.offer;
  const settings = tlsSettings(options.certificate);
  if (options.side === 'agent') {
    return connectTls({
      ...settings,
      socket: stream,
      ALPNProtocols: [tokenProtocol(token), LINK_PROTOCOL],
      ...(isIP(node) === 0 ? { servername: node } : {}),
    });
  }
  // The WebSocket's handshake has told the token.
  if (choice.kind === 'tcp') stream.write(linkPreamble(token));
  return new TLSSocket(stream, { ...settings, isServer: true, ALPNProtocols: [LINK_PROTOCOL] });
};

/** Ends of one handshake: the first outcome wins, the sockets are destroyed unless it is success. */
const handshake = (options: DataLinkOptions, carrier: OpenCarrier): Promise<AuthenticatedPeer> =>
  new Promise((resolve, reject) => {
    const own = ownHello(options);
    const reader = new HelloReader();
    const raw = carrier.stream;
    const tls = startTls(options, carrier);
    let step: LinkStep = 'tls';
    let failure: unknown;
    tls.setNoDelay(true);
    const settle = (): void => {
      timer.cancel();
      options.signal?.removeEventListener('abort', onAbort);
      tls.off('data', onData).off('end', onEnd).off('close', onClose);
      raw.off('close', onClose);
    };
    const fail = (error: LinkError): void => {
      settle();
      tls.destroy();
      raw.destroy();
      reject(error);
    };
    const foreign = (thrown: unknown): LinkError =>
      thrown instanceof LinkError
        ? thrown
        : new LinkError('ERR_LINK_HELLO', step, 'protocol_error', messageOf(thrown), { cause: thrown });
    const onData = (chunk: Buffer): void => {
      try {
        const read = reader.push(chunk);
        if (read === undefined) return;
        tls.pause();
        const peer = authenticatePeer({
          side: options.side,
          offer: options.offer,
          namespace: options.own.namespace,
          own,
          peer: read.hello,
          tls,
          carrier,
          rest: read.rest,
          ownSpki: options.certificate.spki,
        });
        settle();
        resolve(peer);
      } catch (thrown) {
        fail(foreign(thrown));
      }
    };
    const onSecure = (): void => {
      // Nothing is said to a peer that is not the pinned one, not even HELLO.
      try {
        checkPinned(tls, options.offer);
      } catch (thrown) {
        fail(foreign(thrown));
        return;
      }
      step = 'hello';
      tls.write(encodeHello(own));
      tls.on('data', onData);
    };
    const onClose = (): void => {
      const code = step === 'tls' ? 'ERR_LINK_TLS' : 'ERR_LINK_LOST';
      const detail = failure === undefined ? 'carrier closed' : messageOf(failure);
      const message = `data link failed at ${step}: ${detail}`;
      fail(new LinkError(code, step, 'link_failed', message, { retryable: true, cause: failure }));
    };
    const onEnd = (): void => onClose();
    const onAbort = (): void => {
      fail(new LinkError('ERR_LINK_LOST', step, 'link_failed', 'data link was given up'));
    };
    const timer = options.clock.after(HANDSHAKE_TIMEOUT_MS, () => {
      const message = `no authenticated peer within ${HANDSHAKE_TIMEOUT_MS} ms, at ${step}`;
      fail(new LinkError('ERR_LINK_TIMEOUT', step, 'link_failed', message, { retryable: true }));
    });
    // Stays on the socket after success: an error between two owners must not end the process.
    tls.on('error', (error) => {
      failure = error;
    });
    tls.once(options.side === 'agent' ? 'secureConnect' : 'secure', onSecure);
    tls.on('end', onEnd).on('close', onClose);
    raw.on('close', onClose);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
  });

/**
 * Opens one side of a data link: dials the node, runs TLS 1.3 end to end, exchanges HELLO and makes every
 * comparison. The link is up when this resolves.
 *
 * @throws LinkError whose `step` and `reason` the relay is told
 */
export const openDataLink = async (options: DataLinkOptions): Promise<AuthenticatedPeer> => {
  const carrier = await reachNode(options);
  if (options.signal?.aborted === true) {
    carrier.stream.destroy();
    throw new LinkError('ERR_LINK_LOST', 'dial', 'link_failed', 'data link was given up');
  }
  const { carriers, signal } = options;
  try {
    const peer = await handshake(options, carrier);
    carriers?.settled(carrier.choice, true);
    return peer;
  } catch (thrown) {
    const isBroken = thrown instanceof LinkError && (thrown.step === 'tls' || thrown.step === 'pin');
    if (isBroken && signal?.aborted !== true) carriers?.settled(carrier.choice, false);
    throw thrown;
  }
};
