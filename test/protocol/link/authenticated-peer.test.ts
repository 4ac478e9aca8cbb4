import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { Socket } from 'node:net';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import {
  AuthenticatedPeer,
  authenticatePeer,
  HELLO_BOUNDS,
  type PeerEvidence,
} from '../../../src/protocol/link/authenticated-peer.ts';
import { LinkError } from '../../../src/protocol/link/errors.ts';
import type { LinkOffer, PartyKey } from '../../../src/protocol/link/offer.ts';
import { SESSION_LIMITS } from '../../../src/protocol/session/constants.ts';
import type { Hello } from '../../../src/protocol/session/types.ts';
import { createLinkCertificate, systemClock } from '../../../src/runtime/index.ts';

const own = await createLinkCertificate('gateway-1', systemClock);
const theirs = await createLinkCertificate('agent-1', systemClock);
const stranger = await createLinkCertificate('agent-1', systemClock);

const key: PartyKey = {
  kind: 'sas',
  id: 'k_1',
  principal: 'p',
  auth_rule: 'r',
  slot: 'primary',
  claims: ['Send'],
  proved_by: 'relay',
};

const offer: LinkOffer = {
  link_id: '01900000-0000-7000-8000-000000000001',
  token: 'a'.repeat(32),
  node: 'node.test',
  connection: 'db',
  connection_id: 'c-1',
  peer: { spki: theirs.spki, name: 'agent-1', instance: 'i-agent' },
  sender: key,
  listener: key,
  gateway: 'gateway-1',
  agent: 'agent-1',
};

const hello: Hello = {
  v: 1,
  role: 'agent',
  namespace: 'relay.test',
  connection: 'db',
  link_id: offer.link_id,
  name: 'agent-1',
  instance: 'i-agent',
  session_id: 's-1',
  epoch: 0,
  secret: 'secret',
  limits: SESSION_LIMITS,
  features: [],
  build: 'test',
};

interface FakeTls {
  readonly version?: string | null;
  readonly alpn?: string | false;
  readonly certPem?: string | undefined;
}

const fakeTls = ({ version = 'TLSv1.3', alpn = 'sallyport.v1', certPem }: FakeTls): TLSSocket =>
  ({
    getProtocol: () => version,
    alpnProtocol: alpn,
    getPeerCertificate: () => (certPem === undefined ? {} : { raw: new X509Certificate(certPem).raw }),
  }) as unknown as TLSSocket;

const evidence = (peer: Partial<Hello> = {}, tls: FakeTls = { certPem: theirs.certPem }): PeerEvidence => ({
  side: 'gateway',
  offer,
  namespace: 'relay.test',
  own: { ...hello, role: 'gateway' },
  peer: { ...hello, ...peer },
  tls: fakeTls(tls),
  carrier: { choice: { kind: 'tcp', port: 443 }, stream: new Socket(), bytesBefore: { read: 0, written: 0 } },
  rest: Buffer.from('rest'),
  ownSpki: own.spki,
});

const refuses = (given: PeerEvidence, code: string, field: RegExp): void => {
  assert.throws(
    () => authenticatePeer(given),
    (error) => error instanceof LinkError && error.code === code && field.test(error.message),
  );
};

test('a peer that agrees with the offer in everything is authenticated', () => {
  const peer = authenticatePeer(evidence());
  assert.equal(peer.peerSpki, theirs.spki);
  assert.equal(peer.ownSpki, own.spki);
  assert.equal(peer.leftover.toString(), 'rest');
  assert.equal(peer.peerHello.name, 'agent-1');
});

test('nothing but authenticatePeer makes an authenticated peer', () => {
  assert.throws(
    () => Reflect.construct(AuthenticatedPeer, [Symbol('authenticated peer'), evidence(), theirs.spki]),
    TypeError,
  );
});

test('comparison: TLS version', () => {
  refuses(evidence({}, { certPem: theirs.certPem, version: 'TLSv1.2' }), 'ERR_LINK_PIN', /TLSv1\.2/);
});

test('comparison: selected protocol', () => {
  refuses(evidence({}, { certPem: theirs.certPem, alpn: 'http/1.1' }), 'ERR_LINK_PIN', /http\/1\.1/);
  refuses(evidence({}, { certPem: theirs.certPem, alpn: false }), 'ERR_LINK_PIN', /false/);
});

test('comparison: a certificate is shown', () => {
  refuses(evidence({}, { certPem: undefined }), 'ERR_LINK_PIN', /no certificate/);
});

test('comparison: pinned key', () => {
  refuses(evidence({}, { certPem: stranger.certPem }), 'ERR_LINK_PIN', new RegExp(stranger.spki));
});

const others: Partial<{ [Field in keyof Hello]: Hello[Field] | number }> = {
  v: 2,
  role: 'gateway',
  namespace: 'other.test',
  connection: 'other',
  link_id: '01900000-0000-7000-8000-000000000002',
  name: 'agent-2',
  instance: 'i-other',
};

for (const [field, value] of Object.entries(others)) {
  test(`comparison: hello ${field}`, () => {
    refuses(evidence({ [field]: value }), 'ERR_LINK_HELLO', new RegExp(`says ${field} `));
  });
}

for (const [name, bound] of Object.entries(HELLO_BOUNDS)) {
  test(`comparison: hello limits.${name}`, () => {
    for (const value of [bound.least - 1, bound.most + 1, 1.5, Number.NaN]) {
      const limits = { ...SESSION_LIMITS, [name]: value };
      refuses(evidence({ limits }), 'ERR_LINK_HELLO', new RegExp(`limits\\.${name}`));
    }
    for (const value of [bound.least, bound.most]) {
      authenticatePeer(evidence({ limits: { ...SESSION_LIMITS, [name]: value } }));
    }
  });
}
