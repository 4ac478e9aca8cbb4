import { environmentProxy } from '../../protocol/index.ts';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { readKeyringFile } from '../../control/index.ts';
import type { RelayConfig } from '../../relay/index.ts';
import { type Clock, messageOf, spkiFingerprint } from '../../runtime/index.ts';
import { readinessOf } from '../up/readiness.ts';
import { auditDatabaseCheck, controlDatabaseCheck } from './database-checks.ts';
import { type Check, checkOf } from './line.ts';
import { directoryCheck, kernelCheck, listenerCheck, processCheck, spoolCheck } from './machine-checks.ts';
import type { DoctorHints, Plan } from './of-agent.ts';
import { EXPIRY_WARNING_MS, relayChecks } from './relay-checks.ts';

/** The node's own certificate, as it is in its files. */
const certificateCheck = (config: RelayConfig, clock: Clock): Check =>
  checkOf('certificate', config.tls.cert_file, async (lines) => {
    const { host } = config.public;
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(await readFile(config.tls.cert_file));
      const key = createPrivateKey(await readFile(config.tls.key_file));
      if (!certificate.checkPrivateKey(key)) {
        lines.fail(
          'the key of key_file is not that of the certificate',
          'name the key that the certificate was issued for',
        );
        return;
      }
    } catch (thrown) {
      lines.fail(
        messageOf(thrown),
        'cert_file and key_file are PEM, the own certificate first, then its intermediates',
      );
      return;
    }
    const isNamed = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host);
    if (isNamed === undefined)
      lines.fail(
        `it is for ${certificate.subjectAltName ?? 'no name'}, not for public.host ${host}`,
        'issue one for that name, or correct public.host',
      );
    const endsMs = Date.parse(certificate.validTo);
    const text = `valid until ${new Date(endsMs).toISOString()}, key sha256 ${spkiFingerprint(certificate)}`;
    if (endsMs < clock.nowMs()) lines.fail(`it has ended: ${text}`, 'renew it and restart');
    else if (endsMs < clock.nowMs() + EXPIRY_WARNING_MS) lines.warn(text, 'renew it before it ends');
    else lines.pass(text);
  });

/** What is checked for relay.yaml. */
export const relayPlan = async (config: RelayConfig, clock: Clock, hints: DoctorHints): Promise<Plan> => {
  const statusUrl = `http://${config.status.listen}`;
  const { ready, reasons } = await readinessOf(statusUrl);
  const runs = ready || !reasons.some((reason) => /ECONNREFUSED|EADDRNOTAVAIL/.test(reason));
  const { control, audit, public: published } = config;
  // Its own certificate is all that may answer there, whoever has issued it.
  const expectedSpki = await readFile(config.tls.cert_file).then(spkiFingerprint, () => undefined);
  const own = {
    relays: [published],
    ca: undefined,
    caFile: undefined,
    revocation: 'off' as const,
    expectedSpki,
    clock,
    proxies: environmentProxy(),
  };
  return {
    checks: [
      processCheck('relay', statusUrl),
      certificateCheck(config, clock),
      ...config.listen.map((listen) => listenerCheck('public', listen, () => Promise.resolve(runs))),
      listenerCheck('admin', config.admin.listen, () => Promise.resolve(runs)),
      // Nobody answers at the public address before the node runs.
      ...(runs ? relayChecks(own) : []),
      checkOf('keyring', control.keyring_file, async (lines) => {
        await readKeyringFile(control.keyring_file);
        lines.pass('it can be read');
      }),
      controlDatabaseCheck(control.database_url, control.listen_url ?? control.database_url),
      ...(audit.database_url === undefined
        ? []
        : [auditDatabaseCheck(audit.database_url, hints.newestAudit)]),
      directoryCheck('state', config.state_dir),
      directoryCheck('state', audit.spool_dir),
      spoolCheck(audit.spool_dir),
      kernelCheck(),
    ],
    close: () => Promise.resolve(),
  };
};
