import { programName } from '../up/screen.ts';

/** The command that signs a bundle, as an installation of `init` has its key. */
export const signingStep = (bundle: string, signed?: string): string => {
  const out = signed === undefined ? '' : ` -o ${signed}`;
  return `  ${programName()} policy sign ${bundle} --key policy-signing.key --key-id policy-1${out}`;
};
