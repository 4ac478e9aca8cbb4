import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DEFAULT_BUNDLE_FILE } from '../../src/policy/index.ts';
import { sallyport } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const AGENT = `namespace: relay.example.com
policy: {bundle_file: bundle.tar.gz}
time_zone: Europe/Berlin
`;

test('a file of another kind is called what it is, by its name', async (t) => {
  const directory = temporaryDirectory(t);
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const agent = file('agent.yaml', AGENT);
  const vectors = file('vectors.yaml', '- {name: a}\n');
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pub = file('x.pub', String(publicKey.export({ type: 'spki', format: 'pem' })));
  const torn = file(
    'torn.key',
    String(privateKey.export({ type: 'pkcs8', format: 'pem' })).replace(/\n.{20}/, '\n'),
  );
  const out = join(directory, 'out.tar.gz');
  const sign = ['policy', 'sign', DEFAULT_BUNDLE_FILE, '-o', out, '--key'];
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [
      ['policy', 'inspect', agent],
      /agent\.yaml is no bundle: a \.tar\.gz is expected, .* \(ERR_POLICY_ARCHIVE\)/,
    ],
    [['policy', 'diff', DEFAULT_BUNDLE_FILE, agent], /agent\.yaml is no bundle/],
    [['policy', 'sign', agent, '--key', pub], /\.pub is a public key; signing needs the private one/],
    [[...sign, pub], /x\.pub is a public key; signing needs the private one \(ERR_POLICY_KEY\)/],
    [[...sign, agent], /agent\.yaml is not a private key in pem \(ERR_POLICY_KEY\)/],
    [[...sign, torn], /torn\.key is a damaged private key, or one of a kind that is not known/],
    [
      ['relay', '-c', agent],
      /agent\.yaml is an agent configuration, not one of a relay; start it with 'sallyport agent -c /,
    ],
    [['check', '-c', agent], /\(read as an agent configuration\)/],
    [['check', '-c', vectors], /none of its keys tells whose configuration it is: --kind says so/],
  ];
  for (const [args, message] of cases) {
    const ran = await sallyport([...args]);
    assert.notEqual(ran.code, 0, args.join(' '));
    assert.match(ran.stderr + ran.stdout, message, args.join(' '));
    assert.doesNotMatch(ran.stderr, /DECODER|incorrect header|error:1E/, args.join(' '));
  }
});
