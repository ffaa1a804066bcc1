package rule

// Local says that calls stay in the process.
func (r *Rule) Local() {}
