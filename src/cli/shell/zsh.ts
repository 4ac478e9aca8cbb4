import type { CommandShape } from './shape.ts';
import { alternatives, type Candidate, commandKeys, placesOf, quoted, valuesIn } from './table.ts';

const described = (candidates: readonly Candidate[]): string =>
  candidates.map(({ word, description }) => quoted(`${word}:${description}`)).join(' ');

/** The completion function for zsh, to be `_sallyport` in a folder of its `fpath`. */
export const zshCompletion = (program: CommandShape): string => {
  const places = placesOf(program);
  const { all, paths, chosen, free } = valuesIn(places);
  return `#compdef sallyport
# zsh completion for sallyport, made by \`sallyport completion zsh\`.
_sallyport() {
  local path_='' word
  local -a found options
  integer i
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    case "$path_ $word" in
      (${alternatives(all)}) ((i++)) ;;
      (${alternatives(commandKeys(program))}) path_+=" $word" ;;
    esac
  done
  case "$path_ $words[CURRENT-1]" in
    (${alternatives(paths)}) _files; return ;;
${chosen.map(({ key, choices }) => `    ('${key}') compadd -- ${choices.join(' ')}; return ;;`).join('\n')}
    (${alternatives(free)}) return 1 ;;
  esac
  case "$path_" in
${places
  .map(
    ({ path, words, options }) =>
      `    ('${path}') found=(${described(words)}) options=(${described(options)}) ;;`,
  )
  .join('\n')}
  esac
  [[ $PREFIX == -* ]] && found=($options)
  _describe -t words sallyport found
  case "$path_" in
    (${alternatives(places.filter(({ takesPath }) => takesPath).map(({ path }) => path))}) _files ;;
  esac
}
# Loaded by compinit its file is the function itself; sourced, it names it.
if [[ $funcstack[1] == _sallyport ]]; then _sallyport "$@"; else compdef _sallyport sallyport; fi
`;
};
