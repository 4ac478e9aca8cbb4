import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { missingPrograms, sallyport } from '../support/command.ts';
import { createDeployment, type Settings } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { revokingAuthority } from '../support/revoking-authority.ts';
import { echo } from '../support/sockets.ts';

interface Line {
  readonly check: string;
  readonly subject: string;
  readonly state: string;
  readonly detail: string;
  readonly remedy: string | null;
}
interface Report {
  readonly ok: boolean;
  readonly kind: string;
  readonly problems?: readonly object[];
  readonly checks: readonly Line[];
}

const skip = missingPrograms({ openssl: 'openssl' });

test('doctor tells what keeps a deployment from working, and nothing of what does not', {
  skip,
}, async (t) => {
  const target = await echo(t);
  const lists = createServer((request, response) => {
    response.end(authority.crl(request.url?.includes('root') === true ? 'root' : 'intermediate'));
  });
  lists.listen(0, '127.0.0.1');
  await once(lists, 'listening');
  t.after(() => lists.close());
  const base = `http://127.0.0.1:${String((lists.address() as AddressInfo).port)}`;
  const authority = revokingAuthority(t, { root: `${base}/root.crl`, intermediate: `${base}/sub.crl` });
  const to = `127.0.0.1:${target.port}`;
  const trust = (settings: Settings): void => {
    settings['ca_file'] = authority.caFile;
  };
  const deployment = await createDeployment(t, {
    publish: { shop: to },
    edit: {
      agent: trust,
      gateway: trust,
      relay: (settings) => {
        settings['listen'] = (settings['listen'] as string[]).map((listen) =>
          listen.replace(/.*:/, '0.0.0.0:'),
        );
        settings['tls'] = { cert_file: authority.certFile, key_file: authority.keyFile };
      },
    },
  });
  const file = (role: string): string => join(deployment.directory, `${role}.yaml`);
  const doctor = async (
    role: string,
    ...more: string[]
  ): Promise<{ code: number | null; report: Report }> => {
    const ran = await sallyport(['doctor', '-c', file(role), '--json', ...more]);
    assert.notEqual(ran.stdout, '', ran.stderr);
    return { code: ran.code, report: JSON.parse(ran.stdout) as Report };
  };
  const failures = ({ checks }: Report): Line[] => checks.filter(({ state }) => state === 'fail');
  const found = ({ checks }: Report, check: string, subject?: string): Line[] => {
    const lines = checks.filter(
      (line) => line.check === check && (subject === undefined || line.subject === subject),
    );
    assert.ok(lines.length > 0, `${check} ${subject ?? ''}: ${JSON.stringify(checks, null, 1)}`);
    return lines;
  };
  const states = (lines: readonly Line[]): string[] => lines.map(({ state }) => state);
  const relay = `localhost:${String(deployment.relayPort)}`;

  await t.test('a wrong configuration is 2 and goes no further', async () => {
    const wrong = join(deployment.directory, 'wrong.yaml');
    writeFileSync(wrong, 'policy: {}\nrelais: []\n');
    const ran = await sallyport(['doctor', '-c', wrong]);
    assert.equal(ran.code, 2);
    assert.match(ran.stdout, /wrong\.yaml:2:1: .*relais/);
    assert.doesNotMatch(ran.stdout, /dns/);
  });

  await t.test('before anything runs: only the relay is out of reach', async () => {
    const { code, report } = await doctor('agent', '--target', `shop=${to}`, '--principal', 'defaultSender');
    assert.deepEqual(new Set(failures(report).map(({ check }) => check)), new Set(['port', 'tls', 'node']));
    assert.equal(code, 3);
    assert.match(found(report, 'port', relay)[0]?.remedy ?? '', /have outbound TCP to localhost:\d+ allowed/);
    assert.deepEqual(states(found(report, 'process')), ['skip']);
    assert.match(found(report, 'bundle')[0]?.detail ?? '', /^loads, signed by /);
    assert.deepEqual(states(found(report, 'audit database')), ['pass']);
    assert.deepEqual(states(found(report, 'target', 'shop')), ['pass']);
    assert.match(
      found(report, 'policy', 'shop')
        .map(({ detail }) => detail)
        .join('\n'),
      /publish: allowed by rule .*\na stream by defaultSender.*: allowed/,
    );
    const stranger = await doctor('agent', '--target', `shop=${to}`, '--target', 'other=127.0.0.1:1');
    assert.deepEqual(states(found(stranger.report, 'target', 'shop')), ['pass']);
    assert.throws(() => statSync(join(deployment.directory, 'agent/crl')), 'nothing is written');
  });

  await t.test('where policy or the guard says no, or nobody listens', async () => {
    const { code, report } = await doctor('agent', '--target', `shop=127.0.0.1:${String(await freePort())}`);
    assert.equal(code, 1);
    assert.match(found(report, 'target', 'shop')[0]?.detail ?? '', /guard_denied: loopback/);
    assert.match(found(report, 'target', 'shop')[0]?.remedy ?? '', /allow_loopback/);
    assert.match(found(report, 'policy', 'shop')[0]?.detail ?? '', /publish: denied, guard_denied/);
    const loop = await doctor('agent', '--target', `shop=${relay}`);
    assert.match(found(loop.report, 'target', 'shop')[0]?.detail ?? '', /loop: own_listener/);
    assert.match(found(loop.report, 'target', 'shop')[0]?.remedy ?? '', /streams would go round/);
    const other = await doctor('agent', '--target', 'shop=192.0.2.1:7', '--principal', 'nobody');
    assert.match(found(other.report, 'policy', 'shop')[0]?.detail ?? '', /publish: denied, policy_denied/);
    const noName = await doctor('agent', '--target', 'shop=nowhere.invalid:7');
    assert.match(
      found(noName.report, 'target', 'shop')[0]?.detail ?? '',
      /does not resolve: ENOTFOUND|EAI_AGAIN/,
    );
  });

  await t.test('what runs has no failure, for each process', async () => {
    await deployment.startAll();
    for (const role of ['relay', 'agent', 'gateway']) {
      const { code, report } = await doctor(role);
      assert.deepEqual(failures(report), [], role);
      assert.equal(code, 0);
      assert.equal(report.kind, role);
      assert.deepEqual(states(found(report, 'process', role)), ['pass']);
    }
    const { report } = await doctor('agent');
    assert.match(found(report, 'target', 'shop')[0]?.detail ?? '', /as the relay says/);
    assert.match(
      found(report, 'policy', 'shop')
        .map(({ detail }) => detail)
        .join('\n'),
      /a stream by defaultSender/,
    );
    assert.match(found(report, 'published', 'shop at localhost')[0]?.detail ?? '', /by rule/);
    // The certificate ends in two days; neither it nor its authority's is revoked.
    assert.deepEqual(states(found(report, 'tls', relay)), ['warn', 'pass', 'pass']);
    assert.match(found(report, 'clock', relay)[0]?.detail ?? '', /within \d+ s .* limit is 60 s/);
    assert.match(
      found(await doctor('relay').then((one) => one.report), 'control database')
        .map(({ detail }) => detail)
        .join(),
      /LISTEN hears/,
    );
    const plain = await sallyport(['doctor', '-c', file('gateway')]);
    assert.match(plain.stdout, /^pass {2}listener shop: .*held by the running process$/m);
    assert.match(plain.stdout, /^0 failures, /m);
  });

  await t.test('agent test: what would become of a target, published or not', async () => {
    const ask = async (
      target: string,
      ...more: string[]
    ): Promise<{ code: number | null; report: Report }> => {
      const ran = await sallyport(['agent', 'test', target, '-c', file('agent'), '--json', ...more]);
      assert.notEqual(ran.stdout, '', ran.stderr);
      return { code: ran.code, report: JSON.parse(ran.stdout) as Report };
    };
    const good = await ask(to, '--connection', 'shop', '--principal', 'defaultSender');
    assert.equal(good.code, 0);
    assert.deepEqual(
      good.report.checks.map(({ check, state }) => `${check} ${state}`),
      ['managed pass', 'target pass', 'policy pass', 'policy pass'],
    );
    const loop = await ask(relay);
    assert.equal(loop.code, 1);
    assert.match(found(loop.report, 'target')[0]?.detail ?? '', /loop: own_listener/);
    const neighbour = await ask('192.0.2.1:7', '--connection', 'shop');
    assert.equal(neighbour.code, 1, 'policy says no, whoever is out of reach');
    const usage = await sallyport(['agent', 'test', to, '-c', file('agent'), '--principal', 'a']);
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /--principal goes with --connection/);
    const plain = await sallyport(['agent', 'test', to, '-c', file('agent')]);
    assert.match(plain.stdout, /^pass {2}target 127\.0\.0\.1:\d+: .*connected/m);
  });

  await t.test('a probed target that goes away is told, without any stream', async () => {
    deployment.edit('agent', (settings) => {
      for (const connection of settings['connections'] as Settings[]) connection['probe_seconds'] = 5;
    });
    deployment.process('agent').child.kill('SIGHUP');
    const told = (wanted: RegExp) =>
      eventually(`status says ${wanted.source}`, async () => {
        const { stdout } = await sallyport(['status', '-c', file('agent'), '--admin', deployment.adminUrl]);
        return wanted.test(stdout) || undefined;
      });
    await told(/target of shop: reachable since .* took the latest connection in \d+ ms \(probe\)/);
    target.server.close();
    await told(/target of shop: unreachable since .*: 127\.0\.0\.1: ECONNREFUSED \(probe\)/);
    const metrics = await (await fetch(`${deployment.statusUrl('agent')}/metrics`)).text();
    assert.match(metrics, /sallyport_target_reachable\{connection="shop"[^}]*\} 0/);
    assert.match(metrics, /sallyport_target_probes_total\{result="unreachable"[^}]*\} [1-9]/);
    assert.deepEqual(
      await deployment.rows("select 1 from audit.event where type like 'stream.%'"),
      [],
      'a probe is no stream',
    );
  });

  await t.test(
    'an authority that is not the expected one, and a name that is not in the certificate',
    async () => {
      const edited = async (
        role: 'agent' | 'gateway',
        change: (settings: Settings) => void,
      ): Promise<Report> => {
        const before = readFileSync(file(role));
        deployment.edit(role, change);
        const { report } = await doctor(role);
        writeFileSync(file(role), before);
        return report;
      };
      const elsewhere = revokingAuthority(t);
      const foreign = await edited('gateway', (settings) => (settings['ca_file'] = elsewhere.caFile));
      const [untrusted] = found(foreign, 'tls', relay);
      assert.equal(untrusted?.state, 'fail');
      assert.match(
        untrusted.detail,
        /issued by "CN=intermediate", which is no authority of ca_file .*a relay answers there/,
      );
      assert.match(untrusted.detail, /it is a relay in an attacker's hands unless both ends are enrolled/);
      const misnamed = await edited('gateway', (settings) => {
        settings['relays'] = [
          { host: '127.0.0.2', control_port: deployment.relayPort, data_ports: [deployment.relayPort] },
        ];
      });
      assert.match(
        found(misnamed, 'tls')[0]?.detail ?? '',
        /the certificate is for .*, not for 127\.0\.0\.2/,
      );
      assert.match(found(misnamed, 'node')[0]?.detail ?? '', /the node calls itself localhost/);
    },
  );

  await t.test('rights, databases and bundles that will not do', async () => {
    const before = readFileSync(file('agent'));
    const url = 'postgresql://nobody:wrong@127.0.0.1:1/none';
    writeFileSync(join(deployment.directory, 'broken.tar.gz'), 'no bundle');
    deployment.edit('agent', (settings) => {
      const audit = settings['audit'] as Settings;
      delete audit['database_url_file'];
      audit['database_url'] = url;
      (settings['policy'] as Settings)['bundle_file'] = 'broken.tar.gz';
    });
    const stateDir = join(deployment.directory, 'state/agent');
    chmodSync(stateDir, 0o755);
    const { code, report } = await doctor('agent');
    chmodSync(stateDir, 0o700);
    writeFileSync(file('agent'), before);
    assert.equal(code, 1);
    assert.match(found(report, 'audit database')[0]?.remedy ?? '', /nobody listens there/);
    assert.match(found(report, 'bundle')[0]?.detail ?? '', /ERR_POLICY/);
    assert.match(found(report, 'state', stateDir)[0]?.detail ?? '', /mode 755/);
    assert.doesNotMatch(JSON.stringify(report), /wrong/, 'no secret is shown');
  });

  await t.test('a revoked certificate: doctor says so, and neither end logs in', async () => {
    authority.revoke('server');
    for (const role of ['agent', 'gateway'] as const) {
      const { code, report } = await doctor(role);
      assert.equal(code, 1);
      assert.match(
        failures(report)
          .map(({ detail }) => detail)
          .join(),
        new RegExp(`revocation: certificate ${authority.serial} .*was revoked by "CN=intermediate"`),
      );
      await deployment.kill(role);
      deployment.edit(role, (settings) => {
        // What it kept is an hour young.
        settings['state_dir'] = `${String(settings['state_dir'])}-new`;
      });
      deployment.start(role);
    }
    for (const role of ['agent', 'gateway'] as const) {
      await eventually(`the ${role} refuses the relay`, async () => {
        const response = await fetch(`${deployment.statusUrl(role)}/status`);
        const status = (await response.json()) as {
          logins: { code?: string; detail?: string }[];
          certificates: { judged: { state: string; serial: string }[] };
        };
        assert.equal(status.logins[0]?.code, 'ERR_CERTIFICATE_REVOKED');
        assert.ok(
          status.certificates.judged.some(
            ({ state, serial }) => state === 'revoked' && serial === authority.serial,
          ),
        );
        const metrics = await (await fetch(`${deployment.statusUrl(role)}/metrics`)).text();
        assert.ok(
          /sallyport_certificate_checks_total\{state="revoked"[^}]*\} [1-9]/.test(metrics),
          'the metric counts it',
        );
        return true;
      });
    }
  });
});
