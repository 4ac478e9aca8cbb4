import type { TLSSocket } from 'node:tls';
import { spkiFingerprint } from '../../runtime/index.ts';
import type { CarrierKind } from '../carrier/choice.ts';
import type { CarrierStream, OpenCarrier } from '../carrier/open-carrier.ts';
import { LINK_PROTOCOL } from '../carrier/preamble.ts';
import type { Hello } from '../session/types.ts';
import { LinkError } from './errors.ts';
import { type LinkOffer, otherSide, type Side } from './offer.ts';

/** What must be at hand before a peer can be authenticated. */
export interface PeerEvidence {
  readonly side: Side;
  readonly offer: LinkOffer;
  /** The namespace of this process; the peer must name the same. */
  readonly namespace: string;
  /** The HELLO that was sent. */
  readonly own: Hello;
  /** The HELLO that came. */
  readonly peer: Hello;
  readonly tls: TLSSocket;
  readonly carrier: OpenCarrier;
  /** Bytes that came behind the peer's HELLO. */
  readonly rest: Buffer;
  /** SHA-256 of this side's own SPKI. */
  readonly ownSpki: string;
}

/** Limits beyond which a peer's HELLO is not sane, whatever it wants. */
export const HELLO_BOUNDS = {
  frame: { least: 1024, most: 65_536 },
  window: { least: 1024, most: 16 * 1024 * 1024 },
  streams: { least: 1, most: 1_048_576 },
  early: { least: 0, most: 64 * 1024 },
  meta: { least: 256, most: 65_520 },
} as const;

const MADE_HERE: unique symbol = Symbol('authenticated peer');

/**
 * The other end of a data link, proved to be the one that the relay's offer named. Only `authenticatePeer` makes
 * one, and a session can be made from nothing else.
 */
export class AuthenticatedPeer {
  readonly side: Side;
  readonly offer: LinkOffer;
  readonly ownHello: Hello;
  readonly peerHello: Hello;
  readonly ownSpki: string;
  readonly peerSpki: string;
  readonly carrier: CarrierKind;
  /** The port of the node that it came by. */
  readonly port: number;
  /** Paused, with no listener but one for errors; the session owns it from now on. */
  readonly duplex: TLSSocket;
  /** What carries the bytes of `duplex`. */
  readonly raw: CarrierStream;
  /** Bytes of the peer that were read already; to be processed before anything from `duplex`. */
  readonly leftover: Buffer;
  readonly bytesBefore: OpenCarrier['bytesBefore'];

  /** Cannot be called from outside this file: nobody else holds the symbol. */
  constructor(made: typeof MADE_HERE, evidence: PeerEvidence, peerSpki: string) {
    this.side = evidence.side;
    this.offer = evidence.offer;
    this.ownHello = evidence.own;
    this.peerHello = evidence.peer;
    this.ownSpki = evidence.ownSpki;
    this.peerSpki = peerSpki;
    this.duplex = evidence.tls;
    this.bytesBefore = evidence.carrier.bytesBefore;
    this.carrier = evidence.carrier.choice.kind;
    this.port = evidence.carrier.choice.port;
    this.raw = evidence.carrier.stream;
    this.leftover = evidence.rest;
    if (made !== MADE_HERE) throw new TypeError('an authenticated peer is made by authenticatePeer alone');
  }

  /** Bytes on the carrier so far, TLS and all, as the relay counts them. */
  carrierBytes(): { readonly up: number; readonly down: number } {
    const bytesRead = this.raw.bytesRead - this.bytesBefore.read;
    const bytesWritten = this.raw.bytesWritten - this.bytesBefore.written;
    return this.side === 'agent'
      ? { up: bytesRead, down: bytesWritten }
      : { up: bytesWritten, down: bytesRead };
  }
}

const mismatch = (field: string, actual: unknown, expected: unknown): LinkError =>
  new LinkError(
    'ERR_LINK_HELLO',
    'hello',
    'protocol_error',
    `hello says ${field} ${JSON.stringify(actual)}, the offer says ${JSON.stringify(expected)}`,
  );

/**
 * Checks what TLS alone can tell: its version, the selected protocol, and that the peer holds the key that the
 * offer names. Returns the peer's SPKI fingerprint.
 *
 * @throws LinkError ERR_LINK_PIN
 */
export const checkPinned = (tls: TLSSocket, offer: LinkOffer): string => {
  const pin = (message: string): LinkError => new LinkError('ERR_LINK_PIN', 'pin', 'link_failed', message);
  const version = tls.getProtocol();
  if (version !== 'TLSv1.3') throw pin(`link speaks ${version ?? 'no TLS'}, not TLSv1.3`);
  if (tls.alpnProtocol !== LINK_PROTOCOL) throw pin(`link selected protocol ${String(tls.alpnProtocol)}`);
  // Not getPeerX509Certificate: on Node 20 a TLS client gets an answer from it only once.
  const { raw } = tls.getPeerCertificate() as { readonly raw?: Buffer };
  if (raw === undefined) throw pin('peer showed no certificate');
  const spki = spkiFingerprint(raw);
  if (spki !== offer.peer.spki) throw pin(`peer shows key ${spki}, the offer says ${offer.peer.spki}`);
  return spki;
};

/**
 * Checks the pinned key, then every field of the peer's HELLO against the relay's offer. This is the only way to an
 * `AuthenticatedPeer`.
 *
 * @throws LinkError ERR_LINK_PIN, ERR_LINK_HELLO
 */
export const authenticatePeer = (evidence: PeerEvidence): AuthenticatedPeer => {
  const { offer, peer } = evidence;
  const peerSpki = checkPinned(evidence.tls, offer);
  const role = otherSide(evidence.side);
  const version: number = peer.v;
  if (version !== 1) throw mismatch('v', peer.v, 1);
  if (peer.role !== role) throw mismatch('role', peer.role, role);
  if (peer.namespace !== evidence.namespace) throw mismatch('namespace', peer.namespace, evidence.namespace);
  if (peer.connection !== offer.connection) throw mismatch('connection', peer.connection, offer.connection);
  if (peer.link_id !== offer.link_id) throw mismatch('link_id', peer.link_id, offer.link_id);
  if (peer.name !== offer.peer.name) throw mismatch('name', peer.name, offer.peer.name);
  if (peer.instance !== offer.peer.instance) throw mismatch('instance', peer.instance, offer.peer.instance);
  for (const [name, bound] of Object.entries(HELLO_BOUNDS)) {
    const value = peer.limits[name as keyof typeof HELLO_BOUNDS];
    if (!Number.isSafeInteger(value) || value < bound.least || value > bound.most) {
      throw mismatch(`limits.${name}`, value, `${bound.least} to ${bound.most}`);
    }
  }
  return new AuthenticatedPeer(MADE_HERE, evidence, peerSpki);
};
