// The workload through SimGrid: hosts of several cores, and executions of one thread.
//
// An execution of one thread gets at most one core, and more executions than cores share them
// fairly, which is the same processor sharing as everywhere else in this comparison. A core does
// 1e9 flop/s. One actor a host starts the tasks of that host and waits for whatever ends first.
//
// That is the fastest of the ways that were tried: an actor for each task takes three times as
// long, and a single owner of all executions, with a signal when one ends, five times with 1,000
// hosts, since SimGrid looks for an execution that has ended in the list of all that its owner has
// under way.
//
// Usage: simgrid_peer WORKLOAD ENDS; README.md describes the files.

#include <simgrid/s4u.hpp>
#include <simgrid/version.h>
#include <xbt/log.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace sg4 = simgrid::s4u;

namespace {

constexpr double core_flops = 1e9;
// Two events closer than this are taken for one.
constexpr double precision_s = 1e-12;

struct Task {
  std::uint64_t arrival_ns;
  double work_s;
};

struct Workload {
  std::uint64_t hosts;
  std::uint64_t cores;
  std::vector<Task> tasks;
};

template <class T> T read(std::istream& in)
{
  T value;
  if (not in.read(reinterpret_cast<char*>(&value), sizeof value))
    throw std::runtime_error("the workload ends early");
  return value;
}

Workload read_workload(const std::string& path)
{
  std::ifstream in(path, std::ios::binary);
  if (not in)
    throw std::runtime_error("cannot open " + path);
  const auto magic = read<std::array<char, 8>>(in);
  if (std::memcmp(magic.data(), "peers-1\n", magic.size()) != 0)
    throw std::runtime_error(path + ": not a workload");
  Workload workload;
  workload.hosts   = read<std::uint64_t>(in);
  workload.cores   = read<std::uint64_t>(in);
  const auto count = read<std::uint64_t>(in);
  read<std::uint64_t>(in); // the seed
  workload.tasks.resize(count);
  for (Task& task : workload.tasks)
    task = {read<std::uint64_t>(in), read<double>(in)};
  return workload;
}

double cpu_time_s()
{
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The most memory that this process has had in use, in bytes, as JSON.
std::string peak_memory_bytes()
{
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0)
      return std::to_string(1024 * std::strtoull(line.c_str() + 6, nullptr, 10));
  return "null";
}

// Starts and ends the tasks of one host: the one whose number is its turn, and from there every
// one when all other hosts have had theirs.
class Server {
public:
  Server(const Workload& workload, std::size_t turn, std::vector<double>& ends_s)
      : workload_(workload), turn_(turn), ends_s_(ends_s)
  {
  }

  void operator()()
  {
    for (std::size_t task = turn_; task < workload_.tasks.size(); task += workload_.hosts) {
      const double arrival_s = 1e-9 * static_cast<double>(workload_.tasks[task].arrival_ns);
      while (not running_.empty() && sg4::Engine::get_clock() < arrival_s)
        if (not end_next(arrival_s - sg4::Engine::get_clock()))
          break;
      if (sg4::Engine::get_clock() < arrival_s - precision_s)
        sg4::this_actor::sleep_until(arrival_s);
      running_.push_back(sg4::this_actor::exec_async(workload_.tasks[task].work_s * core_flops));
      numbers_.push_back(task);
    }
    while (not running_.empty())
      end_next(-1.0);
  }

private:
  // Waits until a task ends, or for so long; whether one has ended.
  bool end_next(double at_most_s)
  {
    const ssize_t ended = sg4::Exec::wait_any_for(running_, at_most_s);
    if (ended < 0)
      return false;
    ends_s_[numbers_[ended]] = sg4::Engine::get_clock();
    running_[ended] = std::move(running_.back());
    numbers_[ended] = numbers_.back();
    running_.pop_back();
    numbers_.pop_back();
    return true;
  }

  const Workload& workload_;
  std::size_t turn_;
  std::vector<double>& ends_s_;
  std::vector<sg4::ExecPtr> running_;
  std::vector<std::size_t> numbers_;
};

void simulate(const std::string& input, const std::string& output)
{
  const Workload workload = read_workload(input);
  sg4::NetZone* zone      = sg4::create_full_zone("zone");
  std::vector<sg4::Host*> hosts;
  for (std::uint64_t h = 0; h < workload.hosts; ++h)
    hosts.push_back(
        zone->create_host("host-" + std::to_string(h), core_flops)->set_core_count(static_cast<int>(workload.cores))->seal());
  zone->seal();

  std::vector<double> ends_s(workload.tasks.size(), std::numeric_limits<double>::quiet_NaN());
  for (std::size_t turn = 0; turn < hosts.size(); ++turn)
    sg4::Actor::create("server", hosts[turn], Server(workload, turn, ends_s));

  const double started_s = cpu_time_s();
  sg4::Engine::get_instance()->run();
  const double took_s = cpu_time_s() - started_s;

  std::ofstream out(output, std::ios::binary);
  out.write(reinterpret_cast<const char*>(ends_s.data()), static_cast<std::streamsize>(ends_s.size() * sizeof(double)));
  if (not out.flush())
    throw std::runtime_error("failed to write " + output);
  std::printf("{\"loop_cpu_s\":%.9f,\"peak_memory_bytes\":%s}\n", took_s, peak_memory_bytes().c_str());
}

} // namespace

int main(int argc, char** argv)
{
  sg4::Engine engine(&argc, argv);
  // Settings are not worth a line each in the log.
  xbt_log_control_set("xbt_cfg.thresh:warning");
#if SIMGRID_VERSION < 33300
  sg4::Engine::set_config("surf/precision", precision_s);
  sg4::Engine::set_config("maxmin/precision", precision_s);
#else
  sg4::Engine::set_config("precision/timing", precision_s);
  sg4::Engine::set_config("precision/work-amount", precision_s);
#endif
  if (argc != 3) {
    std::cerr << "usage: simgrid_peer WORKLOAD ENDS\n";
    return 2;
  }
  try {
    simulate(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "simgrid_peer: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
