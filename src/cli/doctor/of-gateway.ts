import { readFile } from 'node:fs/promises';
import type { GatewayConfig } from '../../gateway/index.ts';
import type { Clock } from '../../runtime/index.ts';
import { sasCredential } from '../../identity/index.ts';
import { messageOf } from '../../runtime/index.ts';
import { readinessOf } from '../up/readiness.ts';
import { checkOf } from './line.ts';
import { directoryCheck, kernelCheck, listenerCheck, processCheck } from './machine-checks.ts';
import type { Plan } from './of-agent.ts';
import { configuredProxy } from '../../protocol/index.ts';
import { namesChecks } from './names-checks.ts';
import { proxyCheck, relayChecks } from './relay-checks.ts';

/** What is checked for gateway.yaml. */
export const gatewayPlan = async (config: GatewayConfig, clock: Clock): Promise<Plan> => {
  const { relays, ca_file: caFile, tls, state_dir: stateDir } = config;
  const ca = caFile === undefined ? undefined : await readFile(caFile, 'utf8');
  const statusUrl = `http://${config.status.listen}`;
  let answered: Promise<boolean> | undefined;
  const isRunning = (): Promise<boolean> => {
    answered ??= readinessOf(statusUrl).then(
      ({ ready, reasons }) => ready || !reasons.some((reason) => /ECONNREFUSED|EADDRNOTAVAIL/.test(reason)),
    );
    return answered;
  };
  const relayAccess = {
    relays,
    ca,
    caFile,
    revocation: tls.revocation,
    clock,
    proxies: configuredProxy(config.proxy),
  };
  return {
    checks: [
      processCheck('gateway', statusUrl),
      proxyCheck(relayAccess),
      ...relayChecks(relayAccess),
      directoryCheck('state', stateDir),
      ...config.connections.map(({ name, connection_string: text }) =>
        checkOf('key', name, (lines) => {
          try {
            const { connection, keyName, keyId } = sasCredential(text);
            if (connection === name)
              lines.pass(
                `key ${keyId} of auth-rule ${keyName}; whether the relay takes it shows at a login (\`process\`, \`sallyport key list\`)`,
              );
            else
              lines.fail(
                `its connection string is for ${connection ?? 'the whole namespace'}`,
                `put the Send connection string of ${name} there`,
              );
          } catch (thrown) {
            lines.fail(messageOf(thrown), `put the Send connection string of ${name} there`);
          }
        }),
      ),
      ...config.connections.flatMap(({ name, listen }) =>
        listen === undefined ? [] : [listenerCheck(name, listen, isRunning)],
      ),
      ...namesChecks(config, clock),
      kernelCheck(),
    ],
    close: () => Promise.resolve(),
  };
};
