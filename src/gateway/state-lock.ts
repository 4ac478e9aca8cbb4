import { AppError, type DirectoryLock, lockDirectory, stateDirectoryError } from '../runtime/index.ts';
import type { GatewayErrorCode } from './errors.ts';

/**
 * Makes the state directory of a gateway and takes it for this process: two gateways on one would be one installation to the
 * relay, and each login would end the other's.
 * @throws AppError ERR_GATEWAY_STATE with the process that has it, or with why it cannot be made
 */
export const lockState = async (directory: string): Promise<DirectoryLock> => {
  const taken = await lockDirectory('gateway', directory).catch((cause: unknown) => {
    throw stateDirectoryError('ERR_GATEWAY_STATE', directory, cause);
  });
  if ('release' in taken) return taken;
  const who = taken.pid === undefined ? 'another gateway' : `another gateway (process ${taken.pid})`;
  throw new AppError<GatewayErrorCode>(
    'ERR_GATEWAY_STATE',
    `${who} uses state_dir ${directory}; stop it, or give each gateway a state_dir of its own`,
  );
};
