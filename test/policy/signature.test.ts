import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readArchive } from '../../src/policy/bundle/archive.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { MAX_JSON_DEPTH, canonicalJson } from '../../src/policy/bundle/canonical-json.ts';
import { verifySignature } from '../../src/policy/bundle/signature.ts';
import { commandSigner, keySigner, signBundle, verificationKey } from '../../src/policy/index.ts';
import { isAppError } from '../../src/runtime/index.ts';
import { edit, makeKey, refusalByOpa, signaturesByOpa, type TestKey, trusted } from './signing-support.ts';
import { compileOrders, scratch, write } from './support.ts';

const RSA = makeKey('RS256');
const EC = makeKey('ES256');
const ALGORITHMS = [RSA, EC];

const signaturesOf = async (bundle: Buffer): Promise<Buffer> =>
  (await readArchive(bundle)).get('.signatures.json') ?? Buffer.alloc(0);

const withSignatures = (bundle: Buffer, signatures: Buffer): Promise<Buffer> =>
  edit(bundle, (files) => void files.set('.signatures.json', signatures));

/** Documents that two JSON writers seldom agree on, as they are written. */
const AWKWARD: readonly string[] = [
  '[1e1000, 1.0, -0, 10000000000000000000000001, 1E+2, 0.1e-7, -0.0, 100, 1e2]',
  '{"\u00e9": 1, "e\u0301": 2, "\ud83d\ude00": 3, "\uffff": 4, "\ue000": 5, "": 6, "__proto__": 7, "a": 8, "B": 9}',
  '["\\ud83d\\ude00", "\\ud800", "\\udc00\\ud800", "\\ud800\\ud800\\udc00", "\\u2028\u2029\u007f\\u0000\\u001f"]',
  '["<a href=\'x\'>&</a>", "\\/ \\b\\f\\n\\r\\t \\" \\\\", "\u00a0\u200b\u202e\ufeff"]',
  '{"twice": 1, "twice": {"b": [], "a": {}}, "nested": [[[[]]], {"x": {"y": null}}], "t": true, "f": false}',
  ' \t\r\n{ "a" :\n1 ,"b":[ 1 , 2 ] }\n ',
  '\ufeff{"bom": 1}',
  '"text"',
  'null',
];
/** Bytes that are no UTF-8: cut off, overlong, a surrogate, beyond U+10FFFF, a lone continuation. */
const MALFORMED = ['e282', 'c0af', 'eda080', 'f4908080', '80', 'f09f98', 'e2', 'ff'].map((hex) =>
  Buffer.concat([
    Buffer.from('["'),
    Buffer.from(hex, 'hex'),
    Buffer.from('x", "'),
    Buffer.from(hex, 'hex'),
    Buffer.from('"]'),
  ]),
);

/** Each document as a structured file of its own, so that one run of OPA hashes them all. */
const withDocuments = (bundle: Buffer, documents: readonly (string | Buffer)[]): Promise<Buffer> =>
  edit(bundle, (files) => {
    for (const [index, document] of documents.entries()) {
      files.set(`sallyport/d${String(index).padStart(4, '0')}/data.json`, Buffer.from(document));
    }
  });

for (const key of ALGORITHMS) {
  test(`what opa signs by ${key.algorithm} verifies, awkward numbers and text included`, async (t) => {
    const bundle = await withDocuments(await compileOrders(t), [...AWKWARD, ...MALFORMED]);
    const signed = await withSignatures(bundle, await signaturesByOpa(t, bundle, key));
    const files = await readArchive(signed);
    const { keyId, structured } = await verifySignature(files, [trusted(key, 'k1')]);
    assert.equal(keyId, 'k1');
    assert.equal(structured.get('sallyport/d0000/data.json'), AWKWARD[0]?.replaceAll(' ', ''));
    const read = await readBundle(signed, { keys: [trusted(key)], requireSigned: true });
    assert.equal(read.signedBy, 'test');
  });

  test(`what is signed here by ${key.algorithm} verifies in opa`, async (t) => {
    const objects = AWKWARD.filter((text) => text.trim().startsWith('{') && !text.includes('bom'));
    const bundle = await withDocuments(await compileOrders(t), [
      ...objects,
      `{"numbers": ${AWKWARD[0] ?? ''}, "text": ${AWKWARD[2] ?? ''}}`,
    ]);
    const signed = await signBundle(bundle, keySigner(key.privatePem), 'k1');
    assert.equal(await refusalByOpa(t, signed, key), undefined);
    const altered = await edit(signed, (files) => void files.set('vectors.json', Buffer.from('[ ]')));
    assert.match((await refusalByOpa(t, altered, key)) ?? '', /digest mismatch/);
    assert.match((await refusalByOpa(t, signed, makeKey(key.algorithm))) ?? '', /verify/);
  });
}

test("the signatures file is opa's own, byte for byte", async (t) => {
  const bundle = await withDocuments(await compileOrders(t), [...AWKWARD, ...MALFORMED]);
  const signed = await signBundle(bundle, keySigner(RSA.privatePem), undefined);
  assert.equal((await signaturesOf(signed)).toString(), (await signaturesByOpa(t, bundle, RSA)).toString());
});

const json = fc.letrec<Record<'number' | 'text' | 'space' | 'array' | 'object' | 'value', string>>((tie) => ({
  number: fc.stringMatching(/^-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?$/),
  text: fc
    .array(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('\\ud800', '\\udfff', '\\u00e9', '\\/', '\\u2028'),
      ),
    )
    .map(
      (parts) =>
        `"${parts.map((part) => (part.startsWith('\\') ? part : JSON.stringify(part).slice(1, -1))).join('')}"`,
    ),
  space: fc.constantFrom('', ' ', '\n', '\t\r\n'),
  array: fc
    .tuple(fc.array(tie('value'), { maxLength: 4 }), tie('space'))
    .map(([values, space]) => `[${values.join(`${space},`)}]`),
  object: fc
    .tuple(fc.array(fc.tuple(tie('text'), tie('value')), { maxLength: 4 }), tie('space'))
    .map(
      ([entries, space]) =>
        `{${entries.map(([name, value]) => `${name}${space}:${value}`).join(`,${space}`)}}`,
    ),
  value: fc.oneof(
    { maxDepth: 4 },
    tie('number'),
    tie('text'),
    fc.constantFrom('true', 'false', 'null'),
    tie('array'),
    tie('object'),
  ),
}));

test('generated documents are hashed as opa hashes them', async (t) => {
  const documents = fc.sample(json.value, 400);
  const bundle = await withDocuments(await compileOrders(t), documents);
  const byUs = await signaturesOf(await signBundle(bundle, keySigner(RSA.privatePem), undefined));
  const byOpa = await signaturesByOpa(t, bundle, RSA);
  const hashes = (content: Buffer): { name: string; hash: string }[] => {
    const { signatures } = JSON.parse(content.toString()) as { signatures: [string] };
    const payload = Buffer.from(signatures[0].split('.')[1] ?? '', 'base64url').toString();
    return (JSON.parse(payload) as { files: { name: string; hash: string }[] }).files;
  };
  const ours = new Map(hashes(byUs).map(({ name, hash }) => [name, hash]));
  for (const { name, hash } of hashes(byOpa)) {
    const at = /d(\d{4})/.exec(name)?.[1];
    assert.equal(ours.get(name), hash, at === undefined ? name : documents[Number(at)]);
  }
  assert.equal(byUs.toString(), byOpa.toString());
});

test('the canonical form is json of the same meaning, and its own canonical form', () => {
  fc.assert(
    fc.property(json.value, (text) => {
      const canonical = canonicalJson(Buffer.from(text));
      const wellFormed = (_key: string, one: unknown): unknown =>
        typeof one === 'string' ? one.toWellFormed() : one;
      // Names that differ in half a surrogate alone become one: such documents have no meaning to compare.
      if (!/\\ud[89a-f]/.test(text)) assert.deepEqual(JSON.parse(canonical), JSON.parse(text, wellFormed));
      assert.equal(canonicalJson(Buffer.from(canonical)), canonical);
    }),
  );
});

test('what is not json has no canonical form', () => {
  for (const text of [
    '',
    ' ',
    '{',
    '[1,]',
    '{"a":1,}',
    '{"a" 1}',
    '{a:1}',
    '01',
    '1.',
    '.5',
    '+1',
    '1e',
    'NaN',
    'Infinity',
    'tru',
    '"\n"',
    '"\\x"',
    '"\\u12g4"',
    '"',
    '"\\"',
    '[1] 2',
    '// x\n1',
    "{'a':1}",
    '['.repeat(MAX_JSON_DEPTH + 1) + ']'.repeat(MAX_JSON_DEPTH + 1),
  ]) {
    assert.throws(() => canonicalJson(Buffer.from(text)), Error, JSON.stringify(text.slice(0, 20)));
  }
  const deepest = '['.repeat(MAX_JSON_DEPTH) + ']'.repeat(MAX_JSON_DEPTH);
  assert.equal(canonicalJson(Buffer.from(deepest)), deepest);
});

const refuses = async (
  bundle: Buffer,
  key: TestKey,
  message: RegExp,
  code = 'ERR_POLICY_SIGNATURE',
): Promise<void> => {
  await assert.rejects(
    readBundle(bundle, { keys: [trusted(key)], requireSigned: true }),
    (error: unknown) => {
      assert.ok(isAppError(error), String(error));
      assert.match(error.message, message);
      assert.equal(error.code, code);
      return true;
    },
  );
};

const token = (header: object, payload: object | string, signature: string): Buffer => {
  const part = (value: object | string): string =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  return Buffer.from(JSON.stringify({ signatures: [`${part(header)}.${part(payload)}.${signature}`] }));
};

/** Signs whatever header and payload by the real key: what only its holder could have made. */
const sealed = async (bundle: Buffer, header: object, payload: object | string): Promise<Buffer> => {
  const unsealed = JSON.parse(token(header, payload, 'x').toString()) as { signatures: [string] };
  const input = unsealed.signatures[0].slice(0, -'.x'.length);
  const signature = await keySigner(RSA.privatePem).sign(Buffer.from(input));
  return withSignatures(bundle, token(header, payload, signature.toString('base64url')));
};

test('a bundle that is not what was signed is refused', async (t) => {
  const bundle = await compileOrders(t);
  const signed = await signBundle(bundle, keySigner(RSA.privatePem), 'k1');
  const changed = (change: (files: Map<string, Buffer>) => void): Promise<Buffer> => edit(signed, change);
  await refuses(bundle, RSA, /not signed/, 'ERR_POLICY_UNSIGNED');
  await refuses(signed, makeKey('RS256'), /none of the configured keys/);
  await refuses(signed, EC, /none of the configured keys/);
  for (const name of (await readArchive(bundle)).keys()) {
    await refuses(
      await changed((files) => {
        const content = files.get(name) ?? Buffer.alloc(0);
        const text = name.endsWith('data.json') || name === '.manifest';
        files.set(
          name,
          text
            ? Buffer.from(content.toString().replace(/\}\s*$/, ',"x":1}'))
            : Buffer.concat([content, Buffer.from(' ')]),
        );
      }),
      RSA,
      /is not what was signed|is not json/,
    );
    await refuses(
      await changed((files) => void files.delete(name)),
      RSA,
      /was signed and is not in the bundle/,
    );
  }
  await refuses(
    await changed((files) => void files.set('extra.rego', Buffer.from('package x'))),
    RSA,
    /not covered/,
  );
  await refuses(
    await changed((files) => void files.set('sub/.signatures.json', Buffer.from('{}'))),
    RSA,
    /second signatures/,
  );
  const numbers = await signBundle(
    await edit(bundle, (files) => void files.set('data.json', Buffer.from('{"sallyport":{"n":1.0}}'))),
    keySigner(RSA.privatePem),
    undefined,
  );
  await refuses(
    await edit(numbers, (files) => void files.set('data.json', Buffer.from('{"sallyport":{"n":1}}'))),
    RSA,
    /is not what was signed/,
  );
  const spaced = await edit(
    numbers,
    (files) => void files.set('data.json', Buffer.from(' { "sallyport" : {"n":1.0}}')),
  );
  const read = await readBundle(spaced, { keys: [trusted(RSA)], requireSigned: true });
  assert.equal(read.dataText, '{"sallyport":{"n":1.0}}', 'what is used is the text that was hashed');
});

test('a signature that its own key made is refused when it says what is not taken', async (t) => {
  const bundle = await compileOrders(t);
  const good = await signBundle(bundle, keySigner(RSA.privatePem), undefined);
  const { signatures } = JSON.parse((await signaturesOf(good)).toString()) as { signatures: [string] };
  const payload = JSON.parse(Buffer.from(signatures[0].split('.')[1] ?? '', 'base64url').toString()) as {
    files: { name: string; hash: string; algorithm: string }[];
  };
  const header = { alg: 'RS256' };
  await readBundle(await sealed(bundle, header, payload), { keys: [trusted(RSA)], requireSigned: true });
  const withFile = (change: object): object => ({
    files: payload.files.map((file, index) => (index === 0 ? { ...file, ...change } : file)),
  });
  await refuses(await sealed(bundle, { alg: 'none' }, payload), RSA, /says none/);
  await refuses(await sealed(bundle, { alg: 'HS256' }, payload), RSA, /says HS256/);
  await refuses(await sealed(bundle, { alg: 'ES256' }, payload), RSA, /says ES256/);
  await refuses(await sealed(bundle, { alg: 'RS256', crit: ['exp'] }, payload), RSA, /crit/);
  await refuses(await sealed(bundle, header, { ...payload, scope: 'write' }), RSA, /scope 'write'/);
  await refuses(await sealed(bundle, header, withFile({ algorithm: 'MD5' })), RSA, /MD5, which is not taken/);
  await refuses(await sealed(bundle, header, withFile({ hash: '' })), RSA, /is not what was signed/);
  await refuses(await sealed(bundle, header, { files: [...payload.files, ...payload.files] }), RSA, /twice/);
  await refuses(await sealed(bundle, header, { files: [] }), RSA, /not covered/);
  await refuses(await sealed(bundle, header, {}), RSA, /payload/);
  await refuses(await sealed(bundle, header, 'x'), RSA, /not json/);
});

test('a malformed signatures file is refused', async (t) => {
  const bundle = await compileOrders(t);
  for (const [content, message] of [
    ['', /not json/],
    ['{}', /signatures/],
    ['{"signatures":[]}', /0 signatures/],
    ['{"signatures":["a.b.c","a.b.c"]}', /2 signatures/],
    ['{"signatures":["x"]}', /not a json web token/],
    ['{"signatures":["a.b.c.d"]}', /not a json web token/],
    ['{"signatures":["a.b.="]}', /not a json web token/],
    ['{"signatures":["e30.e30.e30"]}', /header/],
    ['{"signatures":["a.b.c"],"plugin":"other"}', /plugin/],
  ] as const) {
    await refuses(await withSignatures(bundle, Buffer.from(content)), RSA, message);
  }
});

test('an hmac over the public key does not pass for a signature', async (t) => {
  const bundle = await compileOrders(t);
  const { createHmac } = await import('node:crypto');
  const unsealed = JSON.parse(token({ alg: 'HS256' }, { files: [] }, 'x').toString()) as {
    signatures: [string];
  };
  const input = unsealed.signatures[0].slice(0, -'.x'.length);
  const mac = createHmac('sha256', RSA.publicPem).update(input).digest('base64url');
  await refuses(
    await withSignatures(bundle, token({ alg: 'HS256' }, { files: [] }, mac)),
    RSA,
    /none of the configured/,
  );
});

test('of several keys the configured id of the one that signed is told, whatever the token says', async (t) => {
  const signed = await signBundle(await compileOrders(t), keySigner(EC.privatePem), 'another');
  const keys = [trusted(RSA, 'old'), trusted(makeKey('ES256'), 'another'), trusted(EC, 'new')];
  assert.equal((await readBundle(signed, { keys, requireSigned: true })).signedBy, 'new');
});

test('without keys a signature is left alone, and is none where one is required', async (t) => {
  const signed = await signBundle(await compileOrders(t), keySigner(EC.privatePem), undefined);
  const read = await readBundle(signed);
  assert.deepEqual([read.signed, read.signedBy], [true, undefined]);
  await assert.rejects(readBundle(signed, { keys: [], requireSigned: true }), {
    code: 'ERR_POLICY_UNSIGNED',
  });
});

test('a key that does not fit is refused', () => {
  const code = 'ERR_POLICY_KEY';
  assert.throws(() => verificationKey('a', 'ES256', RSA.publicPem), { code, message: /given as ES256/ });
  assert.throws(() => verificationKey('a', 'RS256', EC.publicPem), { code });
  assert.throws(() => verificationKey('a', 'RS256', RSA.privatePem), { code, message: /private key/ });
  assert.throws(() => verificationKey('a', 'RS256', 'x'), { code });
  assert.throws(() => keySigner(RSA.privatePem, 'ES256'), { code });
  assert.throws(() => keySigner('x'), { code });
});

test('a signer command signs in base64, in der or as r and s, and is checked', async (t) => {
  const directory = scratch(t);
  write(directory, { 'ec.pem': EC.privatePem, 'rsa.pem': RSA.privatePem });
  const bundle = await compileOrders(t);
  const { createPublicKey } = await import('node:crypto');
  const publicKey = createPublicKey(EC.publicPem);
  const der = `openssl dgst -sha256 -sign ${directory}/ec.pem | base64`;
  // DER leaves out leading zeroes: often enough that r or s is short once in a few dozen.
  for (let round = 0; round < 3; round += 1) {
    const signed = await signBundle(bundle, commandSigner(der, 'ES256', publicKey), 'hsm');
    await readBundle(signed, { keys: [trusted(EC)], requireSigned: true });
  }
  const rsa = `openssl dgst -sha256 -sign ${directory}/rsa.pem | base64 -w0 | tr '+/' '-_' | tr -d =`;
  const byRsa = await signBundle(bundle, commandSigner(rsa, 'RS256', createPublicKey(RSA.publicPem)), 'hsm');
  await readBundle(byRsa, { keys: [trusted(RSA)], requireSigned: true });
  for (const [command, message] of [
    ['exit 3', /ended with 3/],
    ['echo not base64!', /did not print base64/],
    ['echo AAAA', /neither r and s/],
    ['head -c 100000 /dev/zero | base64', /more than/],
    [rsa, /neither r and s/],
    [`openssl dgst -sha512 -sign ${directory}/ec.pem | base64`, /not a signature by the given public key/],
  ] as const) {
    await assert.rejects(signBundle(bundle, commandSigner(command, 'ES256', publicKey), undefined), {
      code: 'ERR_POLICY_SIGNER',
      message,
    });
  }
});

test('signing what is no bundle, or holds yaml data, is refused', async (t) => {
  const signer = keySigner(EC.privatePem);
  await assert.rejects(signBundle(Buffer.from('x'), signer, undefined), { code: 'ERR_POLICY_ARCHIVE' });
  const yaml = await edit(
    await compileOrders(t),
    (files) => void files.set('a/data.yaml', Buffer.from('a: 1')),
  );
  await assert.rejects(signBundle(yaml, signer, undefined), {
    code: 'ERR_POLICY_SIGNATURE',
    message: /yaml/,
  });
});
