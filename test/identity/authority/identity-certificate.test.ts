import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  createIdentityRequest,
  createNamespaceAuthority,
  type Identity,
  IDENTITY_CLOCK_SKEW_MS,
  IDENTITY_LIFE_MS,
  type IdentityErrorCode,
  issueIdentityCertificate,
  keyOfRequest,
  MAX_REQUEST_CHARS,
  MAX_SCOPE_CONNECTIONS,
  readAuthority,
  verifyIdentity,
} from '../../../src/identity/index.ts';
import {
  CERTIFICATE_ALGORITHM,
  type CertificateAndKey,
  createAuthority,
  importSigningKey,
  isAppError,
  loadX509,
  pemText,
  spkiFingerprint,
} from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const NAMESPACE = 'relay.example.com';
const HOUR_MS = 3_600_000;
const clock = new ManualClock();
const AGENT: Identity = {
  kind: 'agent',
  name: 'site-1',
  namespace: NAMESPACE,
  connections: ['billing', 'orders-db'],
};

const authority = await createNamespaceAuthority(NAMESPACE, clock);
const request = await createIdentityRequest();
const publicKey = await keyOfRequest(request.requestPem);

const issue = (identity: Identity, by: CertificateAndKey = authority): Promise<string> =>
  issueIdentityCertificate({ authority: by, publicKey, identity, clock });
const verify = (pem: string, changes: Partial<Parameters<typeof verifyIdentity>[1]> = {}) =>
  verifyIdentity(pem, {
    authorityPem: authority.certPem,
    namespace: NAMESPACE,
    nowMs: clock.nowMs(),
    ...changes,
  });
const refusedAs = (code: IdentityErrorCode) => (error: unknown) => isAppError(error, code);

test('what is issued says who holds the key and which connections it may serve', async () => {
  const verified = verify(await issue(AGENT));
  const { serial, ...said } = verified;
  assert.match(serial, /^[0-9A-F]{32}$/);
  assert.deepEqual(said, {
    ...AGENT,
    spki: spkiFingerprint(await issue(AGENT)),
    notAfterMs: clock.nowMs() + IDENTITY_LIFE_MS,
  });
  const own = createPublicKey(createPrivateKey(request.keyPem)).export({ type: 'spki', format: 'der' });
  assert.ok(own.equals(publicKey), 'the key is the one that never left');
  const gateway = { ...AGENT, kind: 'gateway' as const, name: 'apps' };
  assert.deepEqual(verify(await issue(gateway)).connections, AGENT.connections);
});

test('any identity that can be named comes back as it was', async () => {
  const name = fc.stringMatching(/^[a-z0-9-]{1,63}$/);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<Identity['kind']>('agent', 'gateway'),
      name,
      fc.uniqueArray(name, { maxLength: 5 }),
      async (kind, holder, connections) => {
        const identity = { kind, name: holder, namespace: NAMESPACE, connections: connections.sort() };
        const { kind: k, name: n, connections: c } = verify(await issue(identity));
        assert.deepEqual([k, n, c], [kind, holder, connections]);
      },
    ),
    { numRuns: 30 },
  );
  const most = Array.from({ length: MAX_SCOPE_CONNECTIONS }, (_, at) => `c-${String(at).padStart(3, '0')}`);
  assert.equal(
    verify(await issue({ ...AGENT, connections: most })).connections.length,
    MAX_SCOPE_CONNECTIONS,
  );
  await assert.rejects(
    issue({ ...AGENT, connections: [...most, 'one-more'] }),
    refusedAs('ERR_IDENTITY_CERTIFICATE'),
  );
});

test('names that would say something else are not issued', async () => {
  for (const identity of [
    { ...AGENT, name: 'Site' },
    { ...AGENT, name: 'a/b' },
    { ...AGENT, name: 'a, URI:sallyport://relay.example.com/agent/b' },
    { ...AGENT, name: '' },
    { ...AGENT, connections: ['orders-db#send'] },
    { ...AGENT, connections: ['orders-db', 'billing'] },
    { ...AGENT, connections: ['billing', 'billing'] },
  ])
    await assert.rejects(issue(identity), refusedAs('ERR_IDENTITY_CERTIFICATE'), JSON.stringify(identity));
  const elsewhere = { ...AGENT, namespace: 'other.example.com' };
  await assert.rejects(issue(elsewhere), refusedAs('ERR_IDENTITY_AUTHORITY'));
  const { keyPem } = await createNamespaceAuthority(NAMESPACE, clock);
  await assert.rejects(
    issue(AGENT, { certPem: authority.certPem, keyPem }),
    refusedAs('ERR_IDENTITY_AUTHORITY'),
  );
});

test('a certificate counts within its dates and those of its authority, give or take a minute', async () => {
  const pem = await issue(AGENT);
  const nowMs = clock.nowMs();
  const endMs = nowMs + IDENTITY_LIFE_MS;
  verify(pem, { nowMs: endMs + IDENTITY_CLOCK_SKEW_MS - 1_000 });
  assert.throws(
    () => verify(pem, { nowMs: endMs + IDENTITY_CLOCK_SKEW_MS }),
    refusedAs('ERR_IDENTITY_EXPIRED'),
  );
  assert.throws(() => verify(pem, { nowMs: nowMs - 2 * HOUR_MS }), refusedAs('ERR_IDENTITY_EXPIRED'));
  assert.throws(() => verify(pem, { nowMs: Number.NaN }), refusedAs('ERR_IDENTITY_EXPIRED'));
  const later = new ManualClock(clock.nowMs() + 3_649.5 * 24 * HOUR_MS);
  const last = await issueIdentityCertificate({ authority, publicKey, identity: AGENT, clock: later });
  assert.ok(
    verify(last, { nowMs: later.nowMs() }).notAfterMs < later.nowMs() + IDENTITY_LIFE_MS,
    'it does not outlive its authority',
  );
});

test('certificates of others are refused, each with its code', async () => {
  const other = await createNamespaceAuthority(NAMESPACE, clock);
  assert.throws(() => verify(''), refusedAs('ERR_IDENTITY_CERTIFICATE'));
  assert.throws(() => verify(authority.certPem), refusedAs('ERR_IDENTITY_CERTIFICATE'));
  const foreign = await issue(AGENT, other);
  assert.throws(() => verify(foreign), refusedAs('ERR_IDENTITY_UNTRUSTED'), 'same names, another key');
  assert.throws(
    () => verify(foreign, { nowMs: 0 }),
    refusedAs('ERR_IDENTITY_UNTRUSTED'),
    'the issuer counts before anything that it says',
  );
  const elsewhere = await createNamespaceAuthority('other.example.com', clock);
  const theirs = await issue({ ...AGENT, namespace: 'other.example.com' }, elsewhere);
  assert.throws(() => verify(theirs), refusedAs('ERR_IDENTITY_UNTRUSTED'));
  assert.throws(
    () => verify(theirs, { authorityPem: elsewhere.certPem }),
    refusedAs('ERR_IDENTITY_NAMESPACE'),
  );
  const tlsOnly = await createAuthority('of the relay', clock);
  assert.throws(() => readAuthority(tlsOnly.certPem), refusedAs('ERR_IDENTITY_AUTHORITY'));
  assert.throws(() => readAuthority('no pem'), refusedAs('ERR_IDENTITY_AUTHORITY'));
});

test('what the authority itself signed is no identity unless it has exactly what one has', async () => {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certPem);
  const signingKey = await importSigningKey(createPrivateKey(authority.keyPem));
  const URIS = [
    `sallyport://${NAMESPACE}/agent/site-1`,
    `sallyport://${NAMESPACE}/connection/orders-db#listen`,
  ];
  const uri = (value: string) => ({ type: 'url' as const, value });
  const made = async (
    changes: {
      names?: ConstructorParameters<typeof x509.SubjectAlternativeNameExtension>[0];
      usages?: string[];
      isAuthority?: boolean;
      spki?: Buffer;
    } = {},
  ): Promise<string> => {
    const {
      names = URIS.map(uri),
      usages = [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
      isAuthority = false,
      spki = publicKey,
    } = changes;
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: '4a'.repeat(16),
      subject: 'CN=anything',
      issuer: issuer.subjectName,
      notBefore: new Date(clock.nowMs()),
      notAfter: new Date(clock.nowMs() + HOUR_MS),
      signingAlgorithm: CERTIFICATE_ALGORITHM,
      publicKey: new x509.PublicKey(spki),
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(isAuthority, undefined, true),
        ...(usages.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension(usages)]),
        new x509.SubjectAlternativeNameExtension(names),
      ],
    });
    return pemText(certificate);
  };
  assert.deepEqual(verify(await made()).connections, ['orders-db'], 'the frame itself passes');

  const { ExtendedKeyUsage: usage } = x509;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 }).publicKey;
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;
  const der = (key: typeof rsa): Buffer => key.export({ type: 'spki', format: 'der' });
  const refused: Record<string, Parameters<typeof made>[0]> = {
    'an authority': { isAuthority: true },
    'a server alone': { usages: [usage.serverAuth] },
    'a client alone': { usages: [usage.clientAuth] },
    'no usage': { usages: [] },
    'a signer of code too': { usages: [usage.serverAuth, usage.clientAuth, usage.codeSigning] },
    'an RSA key': { spki: der(rsa) },
    'another curve': { spki: der(p384) },
    'no name': { names: [uri('https://relay.example.com/agent/site-1')] },
    'connections alone': { names: URIS.slice(1).map(uri) },
    'two holders': { names: [...URIS, `sallyport://${NAMESPACE}/agent/site-2`].map(uri) },
    'an agent and a gateway': { names: [...URIS, `sallyport://${NAMESPACE}/gateway/site-1`].map(uri) },
    'a host name besides': { names: [...URIS.map(uri), { type: 'dns', value: 'db.example.com' }] },
    'another claim': {
      names: [URIS[0] ?? '', `sallyport://${NAMESPACE}/connection/orders-db#send`].map(uri),
    },
    'a connection of another namespace': {
      names: [URIS[0] ?? '', 'sallyport://other.example.com/connection/orders-db#listen'].map(uri),
    },
    'one connection twice': { names: [...URIS, URIS[1] ?? ''].map(uri) },
    'a name within a name': { names: [uri(`${URIS[0] ?? ''}, URI:${URIS[1] ?? ''}`)] },
    'an upper-case scheme': { names: [(URIS[0] ?? '').replace('sallyport', 'Sallyport')].map(uri) },
    'a path behind': { names: [`${URIS[0] ?? ''}/x`].map(uri) },
  };
  for (const [what, changes] of Object.entries(refused)) {
    const pem = await made(changes);
    assert.throws(() => verify(pem), refusedAs('ERR_IDENTITY_CERTIFICATE'), what);
  }
});

test('a request proves that its sender has the key, and nothing else of it is read', async () => {
  const x509 = await loadX509();
  const other = await createIdentityRequest();
  const der = Buffer.from(new x509.Pkcs10CertificateRequest(request.requestPem).rawData);
  const theirs = Buffer.from(new x509.Pkcs10CertificateRequest(other.requestPem).rawData);
  // Somebody's key under one's own signature.
  const at = der.indexOf(publicKey);
  const swapped = Buffer.concat([
    der.subarray(0, at),
    await keyOfRequest(other.requestPem),
    der.subarray(at + publicKey.length),
  ]);
  const pem = (bytes: Buffer): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
  await assert.rejects(keyOfRequest(pem(swapped)), refusedAs('ERR_IDENTITY_REQUEST'));
  assert.ok(theirs.length > 0);
  for (const text of [
    '',
    'no request',
    authority.certPem,
    pem(der.subarray(0, 40)),
    'x'.repeat(MAX_REQUEST_CHARS + 1),
  ])
    await assert.rejects(keyOfRequest(text), refusedAs('ERR_IDENTITY_REQUEST'), text.slice(0, 40));
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-384' }, true, [
    'sign',
    'verify',
  ]);
  const wide = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=agent/admin',
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-384' },
  });
  await assert.rejects(keyOfRequest(wide.toString('pem')), refusedAs('ERR_IDENTITY_REQUEST'));
});
