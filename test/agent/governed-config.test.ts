import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitingRestart, governedConfig, policyInUseOf } from '../../src/agent/governed-config.ts';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { ManagedSettings, parseManaged } from '../../src/policy/index.ts';
import { publicKeyPem } from '../policy/managed/signing-key.ts';

const own = agentConfigSchema.parse({
  namespace: 'ns',
  name: 'a1',
  state_dir: '/s',
  relays: [{ host: 'relay.test', control_port: 1, data_ports: [2] }],
  connections: [{ connection_string: 'x' }],
  policy: { bundle_file: '/own/../own/bundle.tar.gz', data_file: '/own/grants.yaml', require_signed: false },
  audit: { spool_dir: '/s/spool', key_file: '/s/key', mode: 'best_effort' },
  status: { listen: '127.0.0.1:0' },
});

const withoutGrants = ((policy) => {
  const { data_file: grants, ...rest } = policy;
  assert.ok(grants !== undefined);
  return rest;
})(own.policy);

const under = (text: string): ManagedSettings =>
  ManagedSettings.inForce(parseManaged(text, 'f'), 'ab'.repeat(32));

test('without managed settings agent.yaml is as it is', () => {
  assert.equal(governedConfig(own, ManagedSettings.absent), own);
  assert.equal(governedConfig(own, ManagedSettings.refused), own);
});

test('what managed settings say stands in place of agent.yaml', () => {
  const settings = under('bundle: {file: /etc/sallyport/b.tar.gz}\naudit_mode: enforced\n');
  const governed = governedConfig(own, settings);
  assert.deepEqual(governed.policy, { ...withoutGrants, bundle_file: '/etc/sallyport/b.tar.gz' });
  assert.equal(governed.audit.mode, 'enforced');
  assert.equal(settings.barsPolicy(policyInUseOf(governed)), undefined);
  assert.deepEqual(awaitingRestart(settings, governed), []);
  assert.deepEqual(awaitingRestart(settings, own), ['audit_mode']);
});

test('signing keys demand signed bundles, and no grants that nobody signed', () => {
  const pem = publicKeyPem();
  const settings = under(`signing_keys: [{id: a, algorithm: ES256, public_key: ${JSON.stringify(pem)}}]`);
  const governed = governedConfig(own, settings);
  const keys = [{ id: 'a', algorithm: 'ES256', public_key: pem }];
  assert.deepEqual(governed.policy, { ...withoutGrants, require_signed: true, keys });
  assert.equal(settings.barsPolicy(policyInUseOf(governed)), undefined);
  assert.equal(settings.barsPolicy(policyInUseOf(own)), 'signing_keys');
});

test('a bundle server of managed settings stands in place of a file, and the other way round', () => {
  const url = 'https://bundles.example.com/agent.tar.gz';
  const fetched = governedConfig(own, under(`bundle: {url: "${url}"}`));
  assert.deepEqual([fetched.policy.bundle_url, fetched.policy.bundle_file], [url, undefined]);
  const served = { ...withoutGrants, bundle_file: undefined, bundle_url: url, max_bundle_age_seconds: 60 };
  const filed = governedConfig({ ...own, policy: served }, under('bundle: {file: /etc/sallyport/b.tar.gz}'));
  assert.deepEqual(
    [filed.policy.bundle_url, filed.policy.bundle_file, filed.policy.max_bundle_age_seconds],
    [undefined, '/etc/sallyport/b.tar.gz', undefined],
  );
});

test('a bundle beside grants of the agent is not the required one', () => {
  const settings = under('bundle: {file: /own/bundle.tar.gz}');
  assert.equal(settings.barsPolicy(policyInUseOf(own)), 'bundle_source');
  const policy = { ...own.policy, data_file: undefined };
  assert.equal(settings.barsPolicy(policyInUseOf({ ...own, policy })), undefined);
});
