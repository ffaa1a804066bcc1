package redis

import (
	_ "embed" // the scripts' texts

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed scripts/lib.lua
	scriptLib string
	//go:embed scripts/commit.lua
	scriptCommitText string
	//go:embed scripts/group.lua
	scriptGroupText string
	//go:embed scripts/describe.lua
	scriptDescribeText string
	//go:embed scripts/create.lua
	scriptCreateText string
	//go:embed scripts/delete.lua
	scriptDeleteText string
	//go:embed scripts/seek.lua
	scriptSeekText string
	//go:embed scripts/look.lua
	scriptLookText string
)

// The scripts. Their first line lets the server refuse one that writes before
// it begins, when its memory is used up or it is a replica.
var (
	scriptCommit   = newScript("", scriptCommitText)
	scriptGroup    = newScript("", scriptGroupText)
	scriptDescribe = newScript(" flags=no-writes", scriptDescribeText)
	scriptCreate   = newScript("", scriptCreateText)
	scriptDelete   = newScript(" flags=allow-oom", scriptDeleteText)
	scriptSeek     = newScript(" flags=no-writes", scriptSeekText)
	scriptLook     = newScript(" flags=no-writes", scriptLookText)
)

func newScript(flags, text string) *redis.Script {
	return redis.NewScript("#!lua" + flags + "\n" + scriptLib + text)
}
