package git

import (
	"crypto/rand"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
)

// maxSlug bounds the middle of a branch's name, in bytes.
const maxSlug = 40

var latin = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "æ", "ae", "ø", "o", "å", "a",
	"à", "a", "á", "a", "â", "a", "ã", "a", "ç", "c", "è", "e", "é", "e", "ê", "e", "ë", "e",
	"ì", "i", "í", "i", "î", "i", "ï", "i", "ñ", "n", "ò", "o", "ó", "o", "ô", "o", "õ", "o",
	"ù", "u", "ú", "u", "û", "u", "ý", "y", "ÿ", "y", "ł", "l", "š", "s", "č", "c", "ž", "z", "'", "", "’", "")

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

// Slug makes of the first line of text a short name of lower-case letters,
// digits and single dashes: at most 40 bytes, cut between words, never empty.
func Slug(text string) string {
	var first string
	for line := range strings.Lines(text) {
		if first = slug(line); first != "" {
			break
		}
	}
	if first == "" {
		return "change"
	}
	return first
}

func slug(line string) string {
	s := strings.Trim(notSlug.ReplaceAllString(latin.Replace(strings.ToLower(line)), "-"), "-")
	if len(s) <= maxSlug {
		return s
	}
	cut := s[:maxSlug+1]
	if i := strings.LastIndexByte(cut, '-'); i >= maxSlug/3 {
		return cut[:i]
	}
	return s[:maxSlug]
}

// BranchName makes a fresh name for an agent's branch: prefix/slug-xxxx, with
// four random letters and digits. An empty prefix is "errand".
func BranchName(prefix, text string) string {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" || !validRef(prefix) {
		prefix = "errand"
	}
	return prefix + "/" + Slug(text) + "-" + strings.ToLower(rand.Text()[:4])
}

// CheckBranch says whether name can be a branch's: an Invalid error otherwise.
func CheckBranch(name string) error {
	if !validRef(name) {
		return errand.Errorf(errand.Invalid, "invalid_branch_name", "%q cannot be the name of a branch. Use letters, digits, dashes and slashes, such as errand/fix-login.", clip(name))
	}
	return nil
}
