import { AppError } from '../../runtime/index.ts';
import type { Publication } from '../deploy/publication.ts';

/** Ports of the system that this one starts from: 5671 to connect, 9352 for data (product.md, A3). */
const RELAY_PORTS = ['5671', '9352'];
const MAX_PORT = 65_535;

/** The ports of `--relay-port`, or the usual ones. @throws AppError ERR_CLI_USAGE */
export const portsOf = (texts: readonly string[]): number[] =>
  (texts.length === 0 ? RELAY_PORTS : texts).map((text) => {
    const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    if (port < 1 || port > MAX_PORT) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `--relay-port ${JSON.stringify(text)} is not a port, 1 to ${MAX_PORT}; for several, repeat it: --relay-port 5671 --relay-port 9352`,
      );
    }
    return port;
  });

/** Ports of targets on this machine, which the agent has to be allowed. */
export const loopbackPorts = (publications: readonly Publication[]): number[] => [
  ...new Set(
    publications
      .filter(({ target: { host } }) => host === 'localhost' || host === '::1' || host.startsWith('127.'))
      .map(({ target }) => target.port),
  ),
];
