//! The echo service, with the recorder's allocator: `echo` runs it.

#[path = "echo.rs"]
mod echo;

#[global_allocator]
static ALLOCATOR: lookback::Alloc = lookback::Alloc::system();

fn main() -> anyhow::Result<()> {
    echo::main()
}
